//! One waiting party: [`Signal`].

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crate::engine::shield::{reported, shielded};
use crate::primitive::{AtomicU64, AtomicWaker, Ordering};

/// A waiting party: a thread or a task that waits for messages or blocks, possibly on several channels at
/// once. The same signal may be registered with any number of channels.
#[derive(Default)]
pub struct Signal {
    waker: AtomicWaker,
    wakes: AtomicU64,
    name: String,
}

impl Signal {
    /// Creates a signal that nobody waits on yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Creates a signal for a party that statistics call `name`, with invisible characters
    /// [escaped](crate::text::line).
    #[must_use]
    pub fn named(name: impl Into<String>) -> Arc<Self> {
        let name = crate::text::line(&name.into()).into_owned();
        Arc::new(Self { waker: AtomicWaker::default(), wakes: AtomicU64::new(0), name })
    }

    /// The party's name in statistics; may be empty.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Registers the waker for the next [`wake`](Self::wake). Replaces the previous one.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Wakes the registered party, if there is one, and forgets it. A panic of its waker becomes a `tracing`
    /// event: it does not concern the caller, which may have others to wake.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            reported("a waker", || waker.wake());
        }
    }

    /// Records that another process has woken the thread of `own`, which is about to poll. If another party
    /// is registered, wakes it.
    pub(crate) fn woken_by(&self, own: &Waker) {
        let Some(waker) = self.waker.take() else { return };
        self.wakes.fetch_add(1, Ordering::Relaxed);
        if waker.data() != own.data() {
            reported("a waker", || waker.wake());
        }
    }

    /// How often a sleeping party was woken.
    #[must_use]
    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        if let Some(waker) = self.waker.take() {
            // Any thread may drop the last reference, without any knowledge of this party.
            let _ = shielded(|| drop(waker));
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("wakes", &self.wakes()).finish_non_exhaustive()
    }
}
