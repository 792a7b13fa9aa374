//! Cap'n Proto: built in place, in one segment whose memory is reused for every message.
//!
//! Lists of texts and numbers use the library's own types. The two structs are written by hand, on the
//! interface that generated code uses, with the layout that `capnpc` would give this schema:
//!
//! ```text
//! struct Entry  { key @0 :Text; value @1 :UInt64; }
//! struct Record { id @0 :UInt64; time @1 :UInt64; x @2 :Float64; … note @19 :Text; }
//! ```
//!
//! Its readers check every pointer when they follow it, so there is no validation beforehand. Texts are taken
//! as bytes, without checking that they are UTF-8.

use std::ptr::NonNull;

use capnp::introspect::{Introspect, Type, TypeVariant};
use capnp::message::{Allocator, Builder, Reader, ReaderOptions, SegmentArray};
use capnp::private::layout::{PointerBuilder, PointerReader, StructBuilder, StructReader, StructSize};
use capnp::traits::{
    FromPointerBuilder, FromPointerReader, HasStructSize, IntoInternalStructReader, OwnedStruct, SetterInput,
};
use capnp::{Word, primitive_list, struct_list, text, text_list};

use super::Layout;
use super::values::{Floats, Map, Record, Strings, Touch, fields, sum};

/// Cap'n Proto messages.
#[derive(Debug)]
pub struct Messages(Segment);

/// The memory of one segment. As the library requires, it is zero where a message may be written.
#[derive(Debug)]
struct Segment {
    words: Vec<u64>,
    /// Unused words at the start.
    start: usize,
    /// Words of the message. No other words can be nonzero.
    used: usize,
}

// SAFETY: the memory neither moves nor is accessed by anything else while the message is built, because the
// builder borrows the segment. Its length is as stated, and all of it is zero.
unsafe impl Allocator for Segment {
    fn allocate_segment(&mut self, minimum_size: u32) -> (NonNull<u8>, u32) {
        let words = &mut self.words[self.start..];
        assert!(minimum_size as usize <= words.len(), "the segment is too small");
        words[..self.used].fill(0);
        let start = NonNull::new(words.as_mut_ptr()).expect("a vector's memory is somewhere");
        (start.cast(), words.len() as u32)
    }

    unsafe fn deallocate_segment(&mut self, _: NonNull<u8>, _: u32, words_used: u32) {
        self.used = words_used as usize;
    }
}

/// Reads the root of a message.
fn read<'a, T: FromPointerReader<'a>>(reader: &'a Reader<SegmentArray<'a>>) -> T {
    reader.get_root().expect("the message was built before")
}

fn options() -> ReaderOptions {
    // These messages exceed the default limit, which is for untrusted ones.
    *ReaderOptions::new().traversal_limit_in_words(None)
}

fn bytes(text: capnp::Result<text::Reader<'_>>) -> &[u8] {
    text.expect("the message was built before").as_bytes()
}

macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident, $reader:ident, $builder:ident: $data:expr, $pointers:expr;)+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        struct $name;

        #[derive(Clone, Copy)]
        struct $reader<'a>(StructReader<'a>);

        struct $builder<'a>(StructBuilder<'a>);

        impl Introspect for $name {
            fn introspect() -> Type {
                // Only dynamic access would call this.
                TypeVariant::AnyPointer.into()
            }
        }

        impl OwnedStruct for $name {
            type Reader<'a> = $reader<'a>;
            type Builder<'a> = $builder<'a>;
        }

        impl<'a> From<StructReader<'a>> for $reader<'a> {
            fn from(reader: StructReader<'a>) -> Self {
                Self(reader)
            }
        }

        impl<'a> IntoInternalStructReader<'a> for $reader<'a> {
            fn into_internal_struct_reader(self) -> StructReader<'a> {
                self.0
            }
        }

        impl SetterInput<$name> for $reader<'_> {
            fn set_pointer_builder(
                mut pointer: PointerBuilder<'_>,
                value: Self,
                canonicalize: bool,
            ) -> capnp::Result<()> {
                pointer.set_struct(&value.0, canonicalize)
            }
        }

        impl<'a> FromPointerReader<'a> for $reader<'a> {
            fn get_from_pointer(
                reader: &PointerReader<'a>,
                default: Option<&'a [Word]>,
            ) -> capnp::Result<Self> {
                Ok(Self(reader.get_struct(default)?))
            }
        }

        impl<'a> From<StructBuilder<'a>> for $builder<'a> {
            fn from(builder: StructBuilder<'a>) -> Self {
                Self(builder)
            }
        }

        impl HasStructSize for $builder<'_> {
            const STRUCT_SIZE: StructSize = StructSize { data: $data, pointers: $pointers };
        }

        impl<'a> FromPointerBuilder<'a> for $builder<'a> {
            fn init_pointer(builder: PointerBuilder<'a>, _: u32) -> Self {
                Self(builder.init_struct(Self::STRUCT_SIZE))
            }

            fn get_from_pointer(
                builder: PointerBuilder<'a>,
                default: Option<&'a [Word]>,
            ) -> capnp::Result<Self> {
                Ok(Self(builder.get_struct(Self::STRUCT_SIZE, default)?))
            }
        }
    )+ };
}

structs! {
    /// One entry of a map.
    Entry, EntryReader, EntryBuilder: 1, 1;
    /// A record of 20 fields.
    RecordStruct, RecordReader, RecordBuilder: 10, 4;
}

impl<'a> EntryReader<'a> {
    fn key(self) -> &'a [u8] {
        bytes(self.0.get_pointer_field(0).get_text(None))
    }

    fn value(self) -> u64 {
        self.0.get_data_field(0)
    }
}

/// The offsets of the record's scalars, each in units of its own size. They are ordered by size, so none
/// overlap: 6 of 8 bytes, 5 of 4, 2 of 2, 2 of 1, and one bit.
mod place {
    #![allow(non_upper_case_globals)]
    pub(super) const id: usize = 0;
    pub(super) const time: usize = 1;
    pub(super) const x: usize = 2;
    pub(super) const y: usize = 3;
    pub(super) const z: usize = 4;
    pub(super) const offset: usize = 5;
    pub(super) const sequence: usize = 12;
    pub(super) const retries: usize = 13;
    pub(super) const speed: usize = 14;
    pub(super) const heading: usize = 15;
    pub(super) const battery: usize = 16;
    pub(super) const marks: usize = 34;
    pub(super) const temperature: usize = 35;
    pub(super) const kind: usize = 72;
    pub(super) const priority: usize = 73;
    pub(super) const active: usize = 592;
    pub(super) const name: usize = 0;
    pub(super) const site: usize = 1;
    pub(super) const unit: usize = 2;
    pub(super) const note: usize = 3;
}

/// Reads and writes a scalar field.
trait Field: Sized {
    fn get(record: StructReader<'_>, place: usize) -> Self;
    fn set(self, record: &StructBuilder<'_>, place: usize);
}

macro_rules! scalars {
    ($($type:ty),+) => { $(
        impl Field for $type {
            #[inline(always)]
            fn get(record: StructReader<'_>, place: usize) -> Self {
                record.get_data_field(place)
            }

            #[inline(always)]
            fn set(self, record: &StructBuilder<'_>, place: usize) {
                record.set_data_field(place, self);
            }
        }
    )+ };
}
scalars!(u8, u16, u32, u64, i16, i32, i64, f32, f64);

impl Field for bool {
    #[inline(always)]
    fn get(record: StructReader<'_>, place: usize) -> Self {
        record.get_bool_field(place)
    }

    #[inline(always)]
    fn set(self, record: &StructBuilder<'_>, place: usize) {
        record.set_bool_field(place, self);
    }
}

macro_rules! define_record {
    (scalars: $($scalar:ident: $type:ty),+; texts: $($text:ident),+) => {
        impl RecordBuilder<'_> {
            fn write(mut self, record: &Record) {
                $(record.$scalar.set(&self.0, place::$scalar);)+
                $(self.0.reborrow().get_pointer_field(place::$text).set_text(record.$text.as_str().into());)+
            }
        }

        impl<'a> RecordReader<'a> {
            $(
                #[inline(always)]
                fn $scalar(self) -> $type {
                    Field::get(self.0, place::$scalar)
                }
            )+
            $(
                #[inline(always)]
                fn $text(self) -> &'a [u8] {
                    bytes(self.0.get_pointer_field(place::$text).get_text(None))
                }
            )+

            fn touch_all(self) -> u64 {
                0_u64 $(.wrapping_add(self.$scalar().touch()))+ $(.wrapping_add(self.$text().touch()))+
            }
        }
    };
}
fields!(define_record!());

impl Messages {
    fn with_room(bytes: usize, lines: usize) -> Self {
        let start = 8 * lines;
        Self(Segment { words: vec![0; start + bytes.div_ceil(8)], start, used: 0 })
    }
}

macro_rules! layout {
    ($value:ty as $root:ty, |$message:ident, $source:ident| $build:expr, |$read:ident| $all:expr, |$look:ident, $of:ident, $n:ident| $one:expr) => {
        impl Layout<$value> for Messages {
            const NAME: &'static str = "capnp";

            fn with_room(bytes: usize, lines: usize) -> Self {
                Self::with_room(bytes, lines)
            }

            fn build(&mut self, $source: &$value) {
                let mut $message = Builder::new(&mut self.0);
                $build
            }

            fn message(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0.words[self.0.start..][..self.0.used])
            }

            fn all(message: &[u8]) -> u64 {
                let segments = [message];
                let reader = Reader::new(SegmentArray::new(&segments), options());
                let $read = read::<$root>(&reader);
                $all
            }

            fn one(message: &[u8], $of: &$value, $n: usize) -> u64 {
                let segments = [message];
                let reader = Reader::new(SegmentArray::new(&segments), options());
                let $look = read::<$root>(&reader);
                $one
            }
        }
    };
}

layout!(
    Strings as text_list::Reader<'_>,
    |message, value| {
        let mut list = message.initn_root::<text_list::Builder<'_>>(value.0.len() as u32);
        for (n, text) in value.0.iter().enumerate() {
            list.set(n as u32, text.as_str());
        }
    },
    |list| sum(list.iter().map(bytes)),
    |list, _value, n| bytes(list.get(n as u32)).touch()
);
layout!(
    Floats as primitive_list::Reader<'_, f32>,
    |message, value| {
        let mut list = message.initn_root::<primitive_list::Builder<'_, f32>>(value.0.len() as u32);
        list.as_slice().expect("the segment is aligned").copy_from_slice(&value.0);
    },
    |list| sum(list.as_slice().expect("the segment is aligned").iter().copied()),
    |list, _value, n| list.get(n as u32).touch()
);
layout!(
    Map as struct_list::Reader<'_, Entry>,
    |message, value| {
        let count = value.keys.len() as u32;
        let mut list = message.initn_root::<struct_list::Builder<'_, Entry>>(count);
        for (n, (key, number)) in value.entries.0.iter().enumerate() {
            let entry = list.reborrow().get(n as u32).0;
            entry.set_data_field(0, *number);
            entry.get_pointer_field(0).set_text(key.as_str().into());
        }
    },
    |list| list
        .iter()
        .fold(0, |all, entry| all.wrapping_add(entry.key().touch()).wrapping_add(entry.value().touch())),
    |list, value, n| {
        // The format has no map, so the keys are sorted and found by binary search.
        let key = value.keys[n].as_bytes();
        let (mut low, mut high) = (0, list.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if list.get(middle).key() < key { low = middle + 1 } else { high = middle }
        }
        list.get(low).value()
    }
);
layout!(
    Record as RecordReader<'_>,
    |message, value| message.initn_root::<RecordBuilder<'_>>(0).write(value),
    |record| record.touch_all(),
    |record, _value, _n| record.note().touch()
);
