//! [`ExpectedPublishers`]: publishers that may return after a restart.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of a topic's publishers that may return after they have gone, because they are restarted.
///
/// Subscriptions created with it do not end before the number is 0. After [forgetting](Self::forget) the last
/// one, wake these subscriptions.
#[derive(Debug, Default)]
pub struct ExpectedPublishers(AtomicUsize);

impl ExpectedPublishers {
    /// Counts a publisher that may return. Call this before it joins.
    pub fn expect(&self) {
        // Ordering: Relaxed suffices, because the thread that adds the publisher's readers to mailboxes calls
        // this earlier.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Stops counting a publisher. Call this after its last reader was added to the mailboxes.
    pub fn forget(&self) {
        // Ordering: Release pairs with the Acquire in `any`: a thread that sees this finds every reader that
        // was added before.
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Whether any publisher may return.
    pub(super) fn any(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `forget`.
        self.0.load(Ordering::Acquire) > 0
    }
}
