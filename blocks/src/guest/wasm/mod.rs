//! A wasm guest's host: its functions are imports, its blocks appear in windows of the guest's memory, and there is one
//! thread.

mod app;
pub mod bindings;
mod deliveries;
mod executor;
mod runtime;
mod window;
mod writer;

pub use app::run_app;
pub use bindings::blockcast::blocks::session::Level;
pub(super) use bindings::blockcast::blocks::{topics, types};
pub(super) use deliveries::{Deliveries, Record};
pub use executor::block_on;
pub use runtime::Runtime;
pub use writer::{RawLoan, Writer, WriterOptions};

/// Whether a component may have several.
pub(super) const THREADS: bool = false;

/// Looks once whether `ready`: a guest gains nothing by looking again before it has let others run.
pub fn spin(mut ready: impl FnMut() -> bool) -> Option<()> {
    ready().then_some(())
}
