//! Makes arbitrary sequences of host calls with arbitrary arguments, from a guest that interprets its input
//! as a program.
//!
//! All inputs share one broker. Each input gets a new guest, and a publisher and a subscriber in the host.
//! Afterwards, every block must be free again, no arena may be mapped into a guest, no file may be open, and
//! the guest must have ended for a known reason. The broker's tests run the same without a sanitizer
//! (`broker/tests/guests/arbitrary_calls.rs`) and produce the seeds.
#![no_main]

#[path = "../../broker/tests/guest_support/arbitrary_calls.rs"]
mod arbitrary_calls;
#[path = "../../broker/tests/guest_support/interpreter.rs"]
mod interpreter;
#[path = "../../broker/tests/guest_support/process.rs"]
#[allow(dead_code, unreachable_pub, reason = "the broker's tests use more of it")]
mod process;
#[path = "../../broker/tests/guest_support/wat.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the broker's tests")]
mod wat;

use std::sync::OnceLock;

use arbitrary_calls::Stage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| Stage::new(wat::component, wat::module, false)).run(input);
});
