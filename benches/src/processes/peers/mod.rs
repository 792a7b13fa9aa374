//! The candidates, one file each.

mod blockcast;
#[cfg(feature = "iceoryx2")]
mod iceoryx2;
mod limit;
mod pipes;
mod sockets;
mod streams;
#[cfg(feature = "zenoh")]
mod zenoh;

use crate::processes::candidate::Candidate;

/// All candidates, Blockcast first, and the machine's own limit.
pub const ALL: &[&dyn Candidate] = &[
    &blockcast::Blockcast::PROCESSES,
    &blockcast::Blockcast::THREADS,
    #[cfg(feature = "iceoryx2")]
    &iceoryx2::Iceoryx2,
    #[cfg(feature = "zenoh")]
    &zenoh::Zenoh,
    &sockets::UnixSockets,
    &pipes::Pipes,
    &limit::Limit,
];

/// Finds a candidate by its name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Candidate> {
    ALL.iter().copied().find(|candidate| candidate.name() == name)
}
