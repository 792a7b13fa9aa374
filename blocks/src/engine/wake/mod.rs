//! Waking sleepers.
//!
//! [`event_count`] decides without a fence whether somebody sleeps, [`signal`] wakes one party, [`roster`]
//! lists the parties of a channel, and [`park`] blocks a thread.

pub(crate) mod event_count;
pub mod park;
pub(crate) mod roster;
pub(crate) mod signal;
