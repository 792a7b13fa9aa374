//! Prepares a thread for running guests: unblocks their [signals](super::signals), and lets the engine set up
//! a stack for the handlers.
//!
//! The engine does that when it first resumes a guest on a thread, and panics if there is no memory for the
//! stack. In the middle of a resumption, such a panic would end the process. So the engine is asked to do it
//! earlier, and only if it would succeed: a process has a limited number of mappings, and a guest may move to
//! another thread when they are used up.

use std::cell::Cell;
use std::panic::catch_unwind;

use wasmtime::Engine;

use super::{signals, sys};

thread_local! {
    static PREPARED: Cell<bool> = const { Cell::new(false) };
}

/// Prepares this thread, once. Returns `false` if there is no memory for it now. Later calls only read a
/// variable.
pub(crate) fn prepare() -> bool {
    PREPARED.get() || {
        signals::unblock();
        let prepared = sys::has_mappings_left() && catch_unwind(Engine::tls_eager_initialize).is_ok();
        PREPARED.set(prepared);
        prepared
    }
}
