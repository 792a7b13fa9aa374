//! Validates and reads arbitrary bytes as messages of various types.
#![no_main]

use std::collections::BTreeMap;

use blockcast_flat_types::Index;
use blockcast_fuzz::{Everything, Shape, access};
use libfuzzer_sys::fuzz_target;

fn at_width<I: Index>(kind: u8, bytes: &[u8]) {
    match kind {
        0 => access::<Everything, I>(bytes),
        1 => access::<Vec<String>, I>(bytes),
        2 => access::<Vec<Vec<Vec<u16>>>, I>(bytes),
        3 => access::<BTreeMap<String, Vec<String>>, I>(bytes),
        4 => access::<Vec<Shape>, I>(bytes),
        5 => access::<(u8, Vec<f64>, Option<(u8, char)>), I>(bytes),
        6 => access::<Result<Vec<bool>, Vec<char>>, I>(bytes),
        _ => access::<BTreeMap<(u8, String), f32>, I>(bytes),
    }
}

fuzz_target!(|input: &[u8]| {
    let [kind, bytes @ ..] = input else { return };
    match kind / 8 % 3 {
        0 => at_width::<u8>(kind % 8, bytes),
        1 => at_width::<u16>(kind % 8, bytes),
        _ => at_width::<u32>(kind % 8, bytes),
    }
});
