//! The signals of a channel's subscribers. Notifiers read them, and joining and leaving replaces them.

use std::sync::Arc;

use crate::engine::snapshot::Snapshot;
use crate::engine::wake::signal::Signal;

/// A set of signals. Waking reads it without a lock.
#[derive(Debug)]
pub(crate) struct Roster(Snapshot<Signal>);

impl Roster {
    pub(crate) fn new() -> Self {
        Self(Snapshot::new())
    }

    /// Wakes all waiters. Never blocks.
    pub(crate) fn wake_all(&self) {
        self.0.read(|signals| signals.iter().for_each(|signal| signal.wake()));
    }

    pub(crate) fn add(&self, signal: &Arc<Signal>) {
        self.0.change(|signals| signals.push(Arc::clone(signal)));
    }

    /// Removes one registration of `signal`.
    pub(crate) fn remove(&self, signal: &Arc<Signal>) {
        self.0.change(|signals| {
            if let Some(at) = signals.iter().position(|known| Arc::ptr_eq(known, signal)) {
                signals.swap_remove(at);
            }
        });
    }
}
