//! A wasm guest's host: its functions are imports, its blocks appear in windows of the guest's memory, and there is one
//! thread.

mod app;
mod bindings;
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

/// What the macro `export!` of the facade is made of: the export, and none of the imports. These take addresses in this guest's
/// memory as numbers and write there, or unmap what lies there, so that only this crate may call them.
#[doc(hidden)]
pub mod export {
    pub use super::bindings::{__export_world_app_cabi, _export_run_cabi, Guest, export_app};
}

/// Whether a component may have several.
pub(super) const THREADS: bool = false;

/// Looks once whether `ready`: a guest gains nothing by looking again before it has let others run.
pub fn spin(mut ready: impl FnMut() -> bool) -> Option<()> {
    ready().then_some(())
}
