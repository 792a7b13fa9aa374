//! Blockcast beside its peers.
//!
//! Every candidate does the same work, and a tally shows that it delivered everything: a candidate that lost
//! a message ends the run with an error. All that is compared runs in one process, round by round in turns, so
//! that what disturbs the machine disturbs everybody.
//!
//! `work` says what the work is, `peers` how each candidate does it, `payloads` has what builds and reads values
//! rather than moves them, `pair` runs two threads, `rounds`
//! interleaves, `suite` lists what is compared, `report` and `plot` show it. `compare` is the command.

#[cfg(not(target_os = "linux"))]
compile_error!("blockcast-bench runs on Linux only, as does what it measures");

pub mod compare;
#[cfg(feature = "guests")]
pub mod guests;
pub mod limits;
pub mod machine;
pub mod pair;
pub mod payloads;
pub mod peers;
pub mod plot;
pub mod record;
pub mod report;
pub mod rounds;
pub mod suite;
pub mod work;
