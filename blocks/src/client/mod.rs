//! The same verbs in a component that is not linked with the engine: a wasm guest, or a shared library.
//!
//! Such a component has no arenas and no rings. What it does with blocks it asks of its host, and the host tells it where in its memory
//! they lie. This module is written against the functions of the WIT package `blockcast:blocks` and offers the engine's names on
//! top of them, so that one source of publishers, subscribers and apps serves linked code, libraries and guests.
//!
//! ```text
//!   app            async fn run(session), or a plain fn that blocks on its own
//!    │  block_on   polls it; when it can go no further: ──▶ wait   (the only call that suspends)
//!    │  reactor    who is woken when wait returns
//!    ├─ Subscription    records of a batch ◀── poll, once per batch
//!    │                  message (by reference), sample (owned)
//!    └─ Writer          loan, publish
//! ```
//!
//! # Two hosts
//! `host` is one of two modules with the same names:
//!
//! * `wasm`: the functions are imports, made by wit-bindgen. The host maps blocks into address space that the guest donates
//!   (`window`); small messages are copied into a block by the host, large ones built there.
//! * `library`: the functions are those of a [table](crate::abi). Addresses are the process's own, every message is built in
//!   its block, and the component may have threads.

mod attached;
mod error;
#[cfg(not(target_family = "wasm"))]
mod library;
mod message;
pub mod park;
mod reactor;
mod sample;
mod subscription;
mod timer;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
use library as host;
#[cfg(target_family = "wasm")]
use wasm as host;

pub use error::HostError;
pub use host::types::Error;
pub use host::{Level, RawLoan, Runtime, Writer, WriterOptions, block_on, run_app};
pub use message::{RawBatch, RawMessage};
pub use sample::RawSample;
pub use subscription::Subscription;
pub use timer::Sleep;
#[cfg(target_family = "wasm")]
pub use wasm::export;
