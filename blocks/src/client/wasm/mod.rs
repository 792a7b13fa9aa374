//! The host of a wasm guest: its functions are imports, its blocks appear in windows of the guest's memory,
//! and there is one thread.

mod app;
mod batch;
mod bindings;
mod deliveries;
mod executor;
mod runtime;
mod window;
mod writer;

pub use app::run_app;
pub use batch::RawSendBatch;
pub use bindings::blockcast::blocks::session::Level;
pub(super) use bindings::blockcast::blocks::{topics, types};
pub(super) use deliveries::{Deliveries, Record};
pub use executor::block_on;
pub use runtime::Runtime;
pub use writer::{RawLoan, Writer};

/// The export, which the facade's macro `export!` uses, and none of the imports. The imports take addresses
/// in this guest's memory as numbers, and write or unmap memory there, so only this crate may call them.
#[doc(hidden)]
pub mod export {
    pub use super::bindings::{__export_world_app_cabi, _export_run_cabi, Guest, export_app};
}

/// Whether a component may have several threads.
pub(super) const THREADS: bool = false;

/// Checks `ready` once. A guest gains nothing by checking again before it has let others run.
pub fn spin(mut ready: impl FnMut() -> bool) -> Option<()> {
    ready().then_some(())
}
