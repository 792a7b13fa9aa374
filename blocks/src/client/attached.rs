//! A subscription's deliveries as samples share them, and what of them the host does not know to be released.

use std::sync::atomic::{AtomicU64, Ordering};

use super::host::Deliveries;

/// What a subscription and its samples have in common.
pub(super) struct Attached {
    pub(super) deliveries: Deliveries,
    /// Deliveries before this number are released.
    released: AtomicU64,
    /// Deliveries before this number were released when the host was told last.
    told: AtomicU64,
}

// Ordering: both numbers only grow, and an old one does no harm. `released` is stored with Release and loaded with Acquire by
// the thread that tells the host, which may be another one: what was read in the messages happens before the host uses their
// blocks again. `told` says nothing about messages, hence Relaxed.
impl Attached {
    pub(super) fn new(deliveries: Deliveries) -> Self {
        Self { deliveries, released: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// Notes that deliveries before number `released` are released.
    #[inline]
    pub(super) fn release(&self, released: u64) {
        self.released.store(released, Ordering::Release);
    }

    /// Notes that the host is told right away that deliveries before number `released` are released.
    #[inline]
    pub(super) fn tell(&self, released: u64) {
        self.release(released);
        self.told.store(released, Ordering::Relaxed);
    }

    /// Whether something is released that the host was not told of.
    pub(super) fn is_untold(&self) -> bool {
        self.told.load(Ordering::Relaxed) < self.released.load(Ordering::Relaxed)
    }

    /// Tells the host what is released. To be called before the component waits: the app may look at this subscription
    /// again only when somebody who waits for these blocks has gone on.
    pub(super) fn flush(&self) {
        let released = self.released.load(Ordering::Acquire);
        self.told.store(released, Ordering::Relaxed);
        self.deliveries.release(released);
    }
}
