//! Archives an arbitrary value in a block and reads it back. Then changes some bytes, and validates and reads
//! the result.
#![no_main]

use blockcast_blocks::{BuildError, Rkyv, WriteFrom};
use blockcast_fuzz::archive::{Archived, Exact, Nested, Texts, Type, access, write};
use libfuzzer_sys::fuzz_target;

/// The changes to an archive (a position and a number to add to its byte), and how many bytes too short a
/// second block is.
type Changes = (Vec<(u16, u8)>, u16);

fn mutate<T: Type>(value: &T, (changes, short_by): &Changes)
where
    Rkyv<T>: WriteFrom<T>,
{
    let mut block = Exact::zeroed(64 << 10);
    let length = match write(value, &mut block) {
        Ok(length) => length,
        Err(BuildError::TooSmall { .. }) => return,
        Err(other) => panic!("{other}"),
    };
    // Archives that are nested too deep are invalid. All others are valid.
    let read = access::<T>(&block[..length]);
    assert!(read.is_none_or(|read| read == *value));
    let mut short = Exact::zeroed(length - 1 - usize::from(*short_by) % length);
    assert!(matches!(write(value, &mut short), Err(BuildError::TooSmall { .. })));
    for (position, change) in changes {
        let position = usize::from(*position) % length;
        block[position] = block[position].wrapping_add(*change);
        access::<T>(&block[..length]);
    }
}

fuzz_target!(|input: (Archived, Nested, Texts, Changes)| {
    let (archived, nested, texts, changes) = input;
    mutate(&archived, &changes);
    mutate(&nested, &changes);
    mutate(&texts, &changes);
});
