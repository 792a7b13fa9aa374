//! The host of a shared library: the functions of a [table](crate::abi), blocks in place in this process, and
//! threads.
//!
//! The names are those of the wasm side. There are three differences: no address space is donated, every
//! message is built in its block, and a component may wait in several threads at once (`runtime`).

mod batch;
mod cancel;
mod deliveries;
mod direct;
mod entry;
mod executor;
mod runtime;
#[cfg(test)]
mod tests;
pub(super) mod types;
mod writer;

pub use batch::RawSendBatch;
pub(super) use deliveries::{Deliveries, Record};
pub use entry::run_app;
pub use executor::block_on;
pub use runtime::Runtime;
pub use types::Level;
pub use writer::{RawLoan, Writer};

pub use crate::spin::spin;

/// Whether a component may have several threads.
pub(super) const THREADS: bool = true;
