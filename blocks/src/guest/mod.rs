//! The same verbs inside of a wasm guest: the engine is on the other side of the host's calls.
//!
//! A guest has no arenas and no rings. The host maps the blocks that it may read into its linear memory and
//! tells it where; what it publishes is copied once into a block by the host, or built there if it is large. This module is written against the
//! functions of the WIT package `blockcast:blocks` and offers the engine's names on top of them, so that one
//! source of publishers, subscribers and apps serves native code and guests.
//!
//! ```text
//!   app            async fn run(session)
//!    │  executor   polls it; when it can go no further: ──▶ wait   (the only call that suspends the guest)
//!    │  reactor    who is woken when wait returns
//!    ├─ Subscription    records of a batch ◀── poll, once per batch; window: address space for the blocks
//!    │                  message (by reference), sample (owned)
//!    └─ Writer          one buffer ──▶ publish, once per message
//!                       the block  ──▶ loan, attach, publish-block, once per large message
//! ```
//!
//! A guest has one thread. Nothing here blocks it except the executor when nothing is left to do.

mod app;
pub mod bindings;
mod error;
mod executor;
mod message;
pub mod park;
mod reactor;
mod sample;
mod subscription;
mod timer;
mod window;
mod writer;

pub use app::run_app;
pub use bindings::blockcast::blocks::session;
pub use error::HostError;
pub use executor::block_on;
pub use message::{RawBatch, RawMessage};
pub use reactor::{now, shutdown};
pub use sample::RawSample;
pub use subscription::Subscription;
pub use timer::{Sleep, sleep, sleep_until};
pub use writer::{RawLoan, Writer, WriterOptions};
