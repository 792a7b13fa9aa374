//! The types of the standard library whose archives travel on topics.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{ArchiveType, Layout};

macro_rules! plain {
    ($($type:ty => $name:literal),+ $(,)?) => { $(
        // SAFETY: rkyv's own implementations write what they say, and the name stands for this type's archive
        // alone.
        unsafe impl ArchiveType for $type {
            const NAME: &'static str = $name;
        }
    )+ };
}

plain! {
    () => "unit", bool => "bool", char => "char", String => "string", Box<str> => "box<str>",
    u8 => "u8", u16 => "u16", u32 => "u32", u64 => "u64", u128 => "u128",
    i8 => "i8", i16 => "i16", i32 => "i32", i64 => "i64", i128 => "i128", f32 => "f32", f64 => "f64",
}

macro_rules! compound {
    ($([$($T:ident),+] $type:ty => $name:literal),+ $(,)?) => { $(
        // SAFETY: rkyv's own implementations write what they say if those of the parts do, whose layouts the
        // text names.
        unsafe impl<$($T: ArchiveType),+> ArchiveType for $type
        where
            Self: rkyv::Archive,
        {
            const NAME: &'static str = $name;

            fn layout(layout: &mut Layout) {
                layout.compound($name, &[$($T::layout),+]);
            }
        }
    )+ };
}

compound! {
    [T] Option<T> => "option", [T] Vec<T> => "vec", [T] VecDeque<T> => "vec", [T] Box<T> => "box", [T] Box<[T]> => "box-slice",
    [T, E] Result<T, E> => "result", [K, V] BTreeMap<K, V> => "map", [K] BTreeSet<K> => "set",
    [A] (A,) => "tuple", [A, B] (A, B) => "tuple", [A, B, C] (A, B, C) => "tuple", [A, B, C, D] (A, B, C, D) => "tuple",
    [A, B, C, D, E] (A, B, C, D, E) => "tuple", [A, B, C, D, E, F] (A, B, C, D, E, F) => "tuple",
    [A, B, C, D, E, F, G] (A, B, C, D, E, F, G) => "tuple",
    [A, B, C, D, E, F, G, H] (A, B, C, D, E, F, G, H) => "tuple",
}

// SAFETY: as above; the text names the number of elements too.
unsafe impl<T: ArchiveType, const N: usize> ArchiveType for [T; N] {
    const NAME: &'static str = "array";

    fn layout(layout: &mut Layout) {
        layout.compound("array", &[T::layout, |layout| layout.text(&N.to_string())]);
    }
}
