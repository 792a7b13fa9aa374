//! Any sequence of calls of the host interface with any arguments, from one guest that reads its input as a program.
//!
//! One broker lives for the whole run; each input gets a fresh guest, a publisher and a subscriber of the host's own beside
//! it. Afterwards nothing may be left: every block is back, no arena is mapped into a guest, no file is open, and the
//! guest has ended for a reason that has a name. The same runs without a sanitizer in the broker's tests
//! (`broker/tests/guests/arbitrary_calls.rs`), where the seeds come from.
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
