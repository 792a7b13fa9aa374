//! Writes an arbitrary value and changes it in a few places: it is refused, or it is another value.
#![no_main]

use blockcast_flat_types::{Flat, Index};
use blockcast_fuzz::{Everything, access};
use libfuzzer_sys::fuzz_target;

fn mutate<I: Index>(value: &Everything, changes: &[(u16, u8)]) {
    let Ok(mut bytes) = Flat::<Everything, I>::to_vec(value) else { return };
    for (place, change) in changes {
        let place = *place as usize % bytes.len();
        bytes[place] = bytes[place].wrapping_add(*change);
        access::<Everything, I>(&bytes);
    }
}

fuzz_target!(|input: (Everything, Vec<(u16, u8)>)| {
    let (value, changes) = input;
    mutate::<u8>(&value, &changes);
    mutate::<u16>(&value, &changes);
    mutate::<u32>(&value, &changes);
});
