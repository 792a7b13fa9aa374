//! `Rkyv`: archives built in place.

use blockcast_blocks::{Payload, Rkyv, WriteFrom};

use super::values::{Entries, Floats, Map, Record, Strings, Touch, fields, sum};
use super::{Block, Layout};

/// Messages that are rkyv archives.
#[derive(Debug)]
pub struct Archives(Block);

/// Archives `value` in the block, as a publisher of `Rkyv<T>` does, and returns the length.
fn write<T>(value: &T, block: &mut [u8]) -> usize
where
    Rkyv<T>: WriteFrom<T>,
{
    // SAFETY: nothing else is built meanwhile.
    let built = unsafe { Rkyv::<T>::write_from(value, block) }.expect("there is room");
    Rkyv::<T>::built_len(&built)
}

/// Returns the archive as a subscriber of `Rkyv<T>` sees it.
#[inline(always)]
fn view<T>(message: &[u8]) -> <Rkyv<T> as Payload>::View<'_>
where
    Rkyv<T>: Payload,
{
    // SAFETY: a layout only reads messages that it has built itself, of the same value type and in an aligned
    // block.
    unsafe { Rkyv::<T>::view(message) }
}

macro_rules! layout {
    ($value:ty as $type:ty, |$this:ident| $source:expr, |$read:ident| $all:expr, |$look:ident, $of:ident, $n:ident| $one:expr) => {
        impl Layout<$value> for Archives {
            const NAME: &'static str = "blockcast-rkyv";

            fn with_room(bytes: usize, lines: usize) -> Self {
                Self(Block::with_room(bytes, lines))
            }

            fn build(&mut self, $this: &$value) {
                self.0.len = write::<$type>($source, &mut self.0);
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
                Some(<Rkyv<$type> as Payload>::validate(message).is_ok())
            }
        }
    };
}

layout!(
    Strings as Strings,
    |value| value,
    |list| sum(list.0.iter().map(|text| text.as_str())),
    |list, _value, n| list.0.get(n).map_or(0, |text| text.as_str().touch())
);
layout!(
    Floats as Floats,
    |value| value,
    |list| sum(list.0.iter().map(|number| number.to_native())),
    |list, _value, n| list.0.get(n).map_or(0, |number| number.to_native().touch())
);
layout!(
    Map as Entries,
    |value| &value.entries,
    |map| map.0.iter().fold(0, |all, (key, value)| {
        all.wrapping_add(key.as_str().touch()).wrapping_add(value.to_native())
    }),
    |map, value, n| map.0.get(value.keys[n].as_str()).map_or(0, |value| value.to_native())
);

/// Numbers in an archive.
trait Native {
    type Number: Touch;
    fn native(self) -> Self::Number;
}

macro_rules! native {
    ($($archived:ident => $number:ty),+; $($same:ty),+) => {
        $(impl Native for rkyv::rend::$archived {
            type Number = $number;
            #[inline(always)]
            fn native(self) -> $number {
                self.to_native()
            }
        })+
        $(impl Native for $same {
            type Number = $same;
            #[inline(always)]
            fn native(self) -> $same {
                self
            }
        })+
    };
}
native!(u16_le => u16, u32_le => u32, u64_le => u64, i16_le => i16, i32_le => i32, i64_le => i64,
    f32_le => f32, f64_le => f64; u8, bool);

macro_rules! touch_all {
    ($view:ident; scalars: $($scalar:ident: $type:ty),+; texts: $($text:ident),+) => {
        0_u64
            $(.wrapping_add($view.$scalar.native().touch()))+
            $(.wrapping_add($view.$text.as_str().touch()))+
    };
}
layout!(Record as Record, |value| value, |record| fields!(touch_all!(record;)), |record, _value, _n| record
    .note
    .as_str()
    .touch());
