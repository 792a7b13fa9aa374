//! The deliveries that a subscription shares with its samples, and which releases the host does not know of
//! yet.

use std::sync::atomic::{AtomicU64, Ordering};

use super::host::Deliveries;

/// State that a subscription shares with its samples.
pub(super) struct Attached {
    pub(super) deliveries: Deliveries,
    /// Deliveries before this number are released.
    released: AtomicU64,
    /// Deliveries before this number are released, as far as the host knows.
    told: AtomicU64,
}

// Ordering: both numbers only grow, and an old value does no harm. `released` is stored with Release, and
// loaded with Acquire by the thread that tells the host, which may be another one: reading the messages
// happens before the host uses their blocks again. `told` says nothing about messages, hence Relaxed.
impl Attached {
    pub(super) fn new(deliveries: Deliveries) -> Self {
        Self { deliveries, released: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// Records that deliveries before number `released` are released.
    #[inline]
    pub(super) fn release(&self, released: u64) {
        self.released.store(released, Ordering::Release);
    }

    /// Records that deliveries before number `released` are released, and that the host learns of it at once.
    #[inline]
    pub(super) fn tell(&self, released: u64) {
        self.release(released);
        self.told.store(released, Ordering::Relaxed);
    }

    /// Whether there are releases that the host does not know of.
    pub(super) fn is_untold(&self) -> bool {
        self.told.load(Ordering::Relaxed) < self.released.load(Ordering::Relaxed)
    }

    /// Tells the host what is released. Call this before the component waits: the app may only return to this
    /// subscription once somebody who waits for these blocks has continued.
    pub(super) fn flush(&self) {
        let released = self.released.load(Ordering::Acquire);
        self.told.store(released, Ordering::Relaxed);
        self.deliveries.release(released);
    }
}
