//! A bell for models: the party that it wakes waits on it.

use std::sync::Arc;

use loom::sync::Notify;

/// Stands for both ends: the ring of one is heard at the other.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<Notify>);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Notify::new()))
    }

    pub(crate) fn ring(&self) {
        self.0.notify();
    }

    /// Waits until it was rung.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        self.0.wait();
    }
}
