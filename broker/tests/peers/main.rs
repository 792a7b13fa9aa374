//! Several processes share their topics. Each test runs this program again for the other processes.

mod arrivals;
mod deaths;
mod host_kills;
mod hosts;
mod messages;
mod refusals;
mod relays;
mod stalls;
mod support;
#[path = "../../../blocks/tests/remote/tracee.rs"]
#[expect(dead_code, reason = "the engine's tests use the rest")]
mod tracee;
mod walls;
