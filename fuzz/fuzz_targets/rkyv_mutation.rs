//! Archives an arbitrary value in a block and reads it back, then changes it in a few places: it is refused,
//! or read to the end.
#![no_main]

use blockcast_blocks::{BuildError, Rkyv, WriteFrom};
use blockcast_fuzz::archive::{Archived, Exact, Nested, Texts, Type, access, write};
use libfuzzer_sys::fuzz_target;

/// The changes to an archive, and by how many bytes a block is too short.
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
    // Nesting is limited. Everything else that is written is valid.
    let read = access::<T>(&block[..length]);
    assert!(read.is_none_or(|read| read == *value));
    let mut short = Exact::zeroed(length - 1 - usize::from(*short_by) % length);
    assert!(matches!(write(value, &mut short), Err(BuildError::TooSmall { .. })));
    for (place, change) in changes {
        let place = usize::from(*place) % length;
        block[place] = block[place].wrapping_add(*change);
        access::<T>(&block[..length]);
    }
}

fuzz_target!(|input: (Archived, Nested, Texts, Changes)| {
    let (archived, nested, texts, changes) = input;
    mutate(&archived, &changes);
    mutate(&nested, &changes);
    mutate(&texts, &changes);
});
