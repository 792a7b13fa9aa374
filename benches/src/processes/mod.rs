//! Candidates whose ends are processes.
//!
//! Every end of a candidate is a process of its own: a publisher, and one or more subscribers. The program
//! starts itself as each of them (`blockcast-bench end`), and they stay for all rounds.
//!
//! - [`meeting`] describes a candidate's ends, [`candidate`] their work, [`peers`] how each candidate does
//!   it;
//! - [`ends`] is the comparing process's side, [`end`] that of an end, [`protocol`] defines their messages;
//! - [`board`] is memory that all ends share, `sleeper` detects whether another end sleeps;
//! - [`groups`] lists the comparisons.
//!
//! ```text
//!   compare                  blockcast-bench end (publisher)      blockcast-bench end (subscriber)
//!   Ends ──── commands ────▶ End ─── Source ═══ messages ═══════▶ Sink ─── End
//!        ◀──── reports ─────  │                                             │
//!                             └─────────────────── Board ───────────────────┘
//! ```
//!
//! Commands arrive through a pipe. An end that reads its end-of-file finishes its round and leaves, so no
//! process outlives the one that compares, however that one ends.

pub mod board;
pub mod candidate;
pub mod end;
pub mod ends;
pub mod groups;
pub mod meeting;
pub mod peers;
pub mod protocol;
mod sleeper;
