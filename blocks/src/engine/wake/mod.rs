//! Waking sleepers.
//!
//! [`event_count`] decides without a fence whether somebody sleeps, [`signal`] wakes one party, [`roster`]
//! lists the parties of a channel, [`park`] blocks a thread, and [`bell`] wakes another process.

#[cfg(not(loom))]
pub(crate) mod bell;
pub(crate) mod event_count;
#[cfg(loom)]
pub(crate) mod modelled_bell;
pub mod park;
pub(crate) mod roster;
pub(crate) mod signal;
