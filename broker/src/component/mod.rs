//! Everything that runs: one handle for linked apps, native libraries and wasm guests.
//!
//! - [`handle`] is the program's handle: it cancels a component and waits for its end;
//! - [`supervision`] runs a component and, if its [`restart`] policy says so, runs it again;
//! - [`limits`] lists the limits of a component, and [`limit_policy`] decides what follows if it exceeds one;
//! - [`cancellation`] and [`clock`] stop a component that does not stop by itself;
//! - [`exit`] describes how a run ended, and [`stats`] counts what it did.

pub(crate) mod cancellation;
pub(crate) mod clock;
pub(crate) mod exit;
pub(crate) mod handle;
pub(crate) mod isolation;
pub(crate) mod limit_policy;
pub(crate) mod limits;
pub(crate) mod restart;
pub(crate) mod stats;
pub(crate) mod supervision;
