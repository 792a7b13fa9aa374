//! A shared library's host: the functions of a [table](crate::abi), blocks where they lie in this process, and threads.
//!
//! The names are those of the wasm side. What differs: no address space is donated, every message is built in its block, and a
//! component may wait in several threads at once (`runtime`).

mod cancel;
mod deliveries;
mod entry;
mod executor;
mod line;
mod runtime;
#[cfg(test)]
mod tests;
pub(super) mod types;
mod writer;

pub(super) use deliveries::{Deliveries, Record};
pub use entry::run_app;
pub use executor::block_on;
pub use runtime::Runtime;
pub use types::Level;
pub use writer::{RawLoan, Writer, WriterOptions};

pub use crate::spin::spin;

/// Whether a component may have several.
pub(super) const THREADS: bool = true;
