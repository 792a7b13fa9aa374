//! What a thread needs before it runs a guest: [signals](super::signals) that reach it, and a stack for their handlers, which
//! the engine sets up.
//!
//! The engine does so when a guest is resumed on a thread for the first time, and panics where there is no memory for it. In
//! the middle of a resumption that would end the process. So it is asked to do so before, and not at all where it would
//! fail: a process has a limited number of mappings, and a guest may be moved to another thread when they are used up.

use std::cell::Cell;
use std::panic::catch_unwind;

use wasmtime::Engine;

use super::{signals, sys};

thread_local! {
    static PREPARED: Cell<bool> = const { Cell::new(false) };
}

/// Prepares this thread, once. False: there is no memory for it now. A look at a variable if it was done before.
pub(crate) fn prepare() -> bool {
    PREPARED.get() || {
        signals::unblock();
        let prepared = sys::has_mappings_left() && catch_unwind(Engine::tls_eager_initialize).is_ok();
        PREPARED.set(prepared);
        prepared
    }
}
