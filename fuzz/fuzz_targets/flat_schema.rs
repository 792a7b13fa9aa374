//! Parses arbitrary text as a schema, then validates and reads arbitrary bytes as its message.
#![no_main]

use std::fmt::Write;

use blockcast_flat_types::dynamic::Schema;
use blockcast_fuzz::Sink;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str, &[u8])| {
    let (width, kind, bytes) = input;
    let width = ["u8", "u16", "u32"][width as usize % 3];
    let Ok(schema) = Schema::parse(&format!("flat1/{width}:{kind}")) else { return };
    if let Ok(value) = schema.access(bytes) {
        write!(Sink, "{value:?}").expect("the sink takes everything");
    }
});
