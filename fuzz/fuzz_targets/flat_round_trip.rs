//! Writes and reads an arbitrary value at every index width.
#![no_main]

use blockcast_fuzz::{Everything, round_trip};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Everything, u16)| {
    let (value, short_by) = input;
    round_trip::<_, u8>(&value, short_by.into());
    round_trip::<_, u16>(&value, short_by.into());
    round_trip::<_, u32>(&value, short_by.into());
});
