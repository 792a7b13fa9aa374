//! How other processes take part in a channel.
//!
//! Each file has one process that writes it. The publisher's process writes the control segment and the
//! arena. Every other process that subscribes writes an [annex](crate::engine::segment::annex) with its
//! [side](crate::engine::segment::side) of the channel. Everybody else maps a file read-only.
//!
//! ```text
//!   publisher's process                          subscribing process
//!   ───────────────────────────────              ──────────────────────────────────────────
//!   Channel::share        ─── two files, its end ───▶  Channel::open_remote
//!                                   of a bell
//!   Channel::attach       ◀───────── annex ──────────
//!      the annex is in the list ── "attached" ─────▶  Channel::join, as in any channel
//!   publish, and if the annex says that somebody waits,
//!     change `rung`, FUTEX_WAKE ──────────────────▶  a thread that waits
//!     ring the bell ──────────────────────────────▶  Channel::bell_rang wakes tasks that wait
//!                                                release, and if the publisher waits,
//!   its thread             ◀────────────────────────  change the annex's `rung`, FUTEX_WAKE
//!   Channel::bell_rang     ◀────────────────────────  ring the bell
//!   Channel::detach        ◀── its pidfd, or a farewell
//! ```
//! The engine does not pass files and bells from one process to another. The caller does. See
//! [`wake`](crate::engine::wake) for how a wait is announced.
//!
//! # Joining
//! The publisher has an annex in its list before any subscriber of that process joins. A joiner claims, makes
//! a barrier that reaches the publisher's process, and checks the watermark again, as in one process. If the
//! publisher reclaims without knowing the annex, it has announced its watermark before that barrier, and the
//! joiner sees it.
//!
//! # Deaths
//! If a subscribing process dies, its annex is dropped as a whole: claims, holds and the armed word vanish at
//! once, and nothing is ever decremented on its behalf. Only its pidfd proves a death. If the publisher's
//! process dies, its files stay: subscribers receive what it published, then the end.
//!
//! # Hostile processes
//! The publisher bounds every number that it reads from an annex. A subscribing process can pin blocks, up to
//! its [quota](AnnexTerms::quota), hold the publisher back if it [may](AnnexTerms::may_block), and be woken
//! by each message, but nothing else. A subscriber checks that every descriptor names bytes of one block.
//! [`Trust`] decides whether it also validates the bytes. Either side can keep a thread awake that waits for
//! it, but not past a deadline.

mod annexes;
#[cfg(not(loom))]
mod channel;
mod publisher;

pub(crate) use annexes::{Annex, Annexes, Interval};
#[cfg(not(loom))]
pub use annexes::{AnnexError, AnnexStats};
pub use annexes::{AnnexId, AnnexTerms};
#[cfg(not(loom))]
pub use channel::ShareError;
pub(crate) use publisher::RemotePublisher;
pub use publisher::Trust;

#[cfg(not(loom))]
pub(crate) use crate::engine::wake::bell::Bell;
#[cfg(loom)]
pub(crate) use crate::engine::wake::modelled_bell::Bell;

#[cfg(all(test, not(loom)))]
mod tests;
