//! Validates and reads arbitrary bytes as archives of several types.
#![no_main]

use blockcast_fuzz::archive::{Archived, Form, Nested, Texts, access};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [kind, bytes @ ..] = input else { return };
    match kind % 4 {
        0 => drop(access::<Archived>(bytes)),
        1 => drop(access::<Form>(bytes)),
        2 => drop(access::<Nested>(bytes)),
        _ => drop(access::<Texts>(bytes)),
    }
});
