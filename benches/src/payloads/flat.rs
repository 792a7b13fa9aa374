//! `Flat`: values built in place.

use std::collections::BTreeMap;

use blockcast_flat_types::{Flat, FlatType};

use super::values::{self, Floats, Map, Record, Strings, Touch, fields, sum};
use super::{Block, Layout};
use crate::peers::REFERENCE;

/// Messages in Blockcast's own layout.
#[derive(Debug)]
pub struct InPlace(Block);

/// Returns the view of a message that a builder wrote, or that was validated before.
#[inline(always)]
fn view<T: FlatType>(message: &[u8]) -> T::View<'_, u32> {
    // SAFETY: a layout only reads messages that it has built itself, of the same value type.
    unsafe { Flat::<T>::access_unchecked(message) }
}

macro_rules! layout {
    ($value:ty as $type:ty, |$this:ident| $source:expr, |$read:ident| $all:expr, |$look:ident, $of:ident, $n:ident| $one:expr) => {
        impl Layout<$value> for InPlace {
            const NAME: &'static str = REFERENCE;

            fn with_room(bytes: usize, lines: usize) -> Self {
                Self(Block::with_room(bytes, lines))
            }

            fn build(&mut self, $this: &$value) {
                self.0.len = Flat::<$type>::write($source, &mut self.0).expect("there is room");
            }

            fn message(&self) -> &[u8] {
                self.0.message()
            }

            fn all(message: &[u8]) -> u64 {
                let $read = view::<$type>(message);
                $all
            }

            fn one(message: &[u8], $of: &$value, $n: usize) -> u64 {
                let $look = view::<$type>(message);
                $one
            }

            fn is_valid(message: &[u8]) -> Option<bool> {
                Some(Flat::<$type>::validate(message).is_ok())
            }
        }
    };
}

layout!(Strings as Vec<String>, |value| &value.0, |list| sum(list), |list, _value, n| {
    list.get(n).map_or(0, Touch::touch)
});
layout!(
    Floats as Vec<f32>,
    |value| &value.0,
    |list| sum(list.as_slice().expect("blocks are aligned").iter().copied()),
    |list, _value, n| list.get(n).map_or(0, Touch::touch)
);
layout!(
    Map as BTreeMap<String, u64>,
    |value| &value.entries.0,
    |map| map.iter().fold(0, |all, (key, value)| all.wrapping_add(key.touch()).wrapping_add(value.touch())),
    |map, value, n| map.get(&value.keys[n]).unwrap_or(0)
);

macro_rules! touch_all {
    ($view:ident; scalars: $($scalar:ident: $type:ty),+; texts: $($text:ident),+) => {
        0_u64 $(.wrapping_add($view.$scalar().touch()))+ $(.wrapping_add($view.$text().touch()))+
    };
}
layout!(
    Record as values::Record,
    |value| value,
    |record| fields!(touch_all!(record;)),
    |record, _value, _n| record.note().touch()
);
