//! Makes an arbitrary sequence of host calls with arbitrary arguments, from one guest that interprets its
//! input as a program.
//!
//! One broker lives for the whole run. Each input gets a fresh guest, and a publisher and a subscriber of the
//! host. Afterwards nothing may be left: every block has returned, no arena is mapped into a guest, no file
//! is open, and the guest has ended for a named reason. The broker's tests do the same without a sanitizer
//! (`broker/tests/guests/arbitrary_calls.rs`), and the seeds come from there.
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
