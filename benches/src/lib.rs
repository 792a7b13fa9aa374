//! Blockcast compared with its peers.
//!
//! All candidates do the same work. A tally checks that each delivered everything: a candidate that loses a
//! message ends the run with an error. All of them take turns round by round, so that whatever disturbs the
//! machine disturbs all of them.
//!
//! `work` defines the work, `peers` how each candidate does it, and `payloads` covers building and reading
//! values instead of moving them. `pair` runs two threads, `processes` several processes, `rounds`
//! interleaves the candidates, and `suite` lists what is compared. `report` and `plot` present the results.
//! `compare` is the command that measures, `summary` the one that writes pages.

#[cfg(not(target_os = "linux"))]
compile_error!("blockcast-bench runs on Linux only, as does what it measures");

pub mod compare;
#[cfg(feature = "guests")]
pub mod guests;
pub mod latencies;
pub mod limits;
pub mod machine;
pub mod pair;
pub mod payloads;
pub mod peers;
pub mod plot;
#[cfg(feature = "processes")]
pub mod processes;
pub mod record;
pub mod report;
pub mod rounds;
pub mod suite;
pub mod summary;
pub mod work;
