//! Asking a guest to stop, and stopping it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blockcast_blocks::Signal;
use tokio::sync::Notify;

/// The outside's handle on one run of a guest. Shared with the run itself.
#[derive(Debug)]
pub struct GuestControl {
    shutdown: AtomicBool,
    cancelled: AtomicBool,
    changed: Notify,
    /// What the guest's `wait` sleeps on.
    signal: Arc<Signal>,
}

impl GuestControl {
    /// For a run that nobody has asked to stop.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shutdown: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            changed: Notify::new(),
            signal: Signal::new(),
        })
    }

    /// Asks the guest to finish: its `wait` returns and `shutdown-requested` is true from now on. A guest that
    /// goes on is ended when its grace is over.
    pub fn request_shutdown(&self) {
        // Ordering: Release, with the Acquire of the readers: who is woken sees it.
        self.shutdown.store(true, Ordering::Release);
        self.changed.notify_one();
        self.signal.wake();
    }

    /// Ends the guest at its next interruption, within milliseconds; at once if it waits.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.changed.notify_one();
        self.signal.wake();
    }

    /// Whether the guest was asked to finish.
    #[must_use]
    pub fn is_shutdown_requested(&self) -> bool {
        self.shutdown.load(Ordering::Acquire)
    }

    /// Whether the guest was told to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Returns after a request that had not been seen by this method yet.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
