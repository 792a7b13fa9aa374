//! Writes an arbitrary value, changes some bytes, then validates and reads the result.
#![no_main]

use blockcast_flat_types::{Flat, Index};
use blockcast_fuzz::{Everything, access};
use libfuzzer_sys::fuzz_target;

fn mutate<I: Index>(value: &Everything, changes: &[(u16, u8)]) {
    let Ok(mut bytes) = Flat::<Everything, I>::to_vec(value) else { return };
    for (position, change) in changes {
        let position = *position as usize % bytes.len();
        bytes[position] = bytes[position].wrapping_add(*change);
        access::<Everything, I>(&bytes);
    }
}

fuzz_target!(|input: (Everything, Vec<(u16, u8)>)| {
    let (value, changes) = input;
    mutate::<u8>(&value, &changes);
    mutate::<u16>(&value, &changes);
    mutate::<u32>(&value, &changes);
});
