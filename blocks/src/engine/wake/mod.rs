//! Waking sleepers.
//!
//! [`event_count`] detects without a fence whether somebody sleeps, [`signal`] wakes one party, [`roster`]
//! lists the parties of a channel, and [`park`] blocks a thread on the word of its [`parker`].
//!
//! # Other processes
//! A process that waits for another one counts its waits in a word that the other one reads, [`armed`]. The
//! other one then changes a counter that it writes itself, [`rung`], and wakes
//!
//! - threads, which sleep on that counter and on those of other processes at once ([`watch`]);
//! - by a [`bell`], a thread of that process that wakes tasks. It also wakes threads, if the system cannot
//!   put them to sleep on several words, or if there are too many counters.
//!
//! ```text
//!   waiter                                   the other process
//!   ──────                                   ─────────────────
//!   register the waker                       make the condition true
//!   watch the counter                        light barrier, or fence
//!   announce a wait in the armed word        is there a wait that was not answered?
//!   fence, or barrier of all processes         change the counter
//!   check the condition once more              wake the threads that sleep on it
//!   sleep until the counter changes            ring the bell
//! ```

pub(crate) mod armed;
#[cfg(not(loom))]
pub(crate) mod bell;
pub(crate) mod event_count;
#[cfg(loom)]
pub(crate) mod modelled_bell;
#[cfg(loom)]
mod modelled_futex;
pub mod park;
pub(crate) mod parker;
pub(crate) mod roster;
pub(crate) mod rung;
pub(crate) mod signal;
pub(crate) mod watch;

#[cfg(not(loom))]
use crate::sys::futex;
#[cfg(loom)]
use modelled_futex as futex;
