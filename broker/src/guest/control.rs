//! Asking a guest to stop, and stopping it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use blockcast_blocks::Signal;
use tokio::sync::watch;

/// What a component was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Request {
    GoOn = 0,
    Finish = 1,
    End = 2,
}

/// The outside's handle on one run of a component. Shared with the run itself.
#[derive(Debug)]
pub struct GuestControl {
    request: watch::Sender<Request>,
    /// The same, for looking at it often.
    latest: AtomicU8,
    /// What the guest's `wait` sleeps on.
    signal: Arc<Signal>,
}

impl GuestControl {
    /// For a run that nobody has asked to stop.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::named("")
    }

    /// As [`new`](Self::new), for a component that statistics call `name`.
    #[must_use]
    pub fn named(name: &str) -> Arc<Self> {
        Arc::new(Self {
            request: watch::Sender::new(Request::GoOn),
            latest: AtomicU8::new(Request::GoOn as u8),
            signal: Signal::named(name),
        })
    }

    /// Asks the component to finish: a guest's `wait` returns and `shutdown-requested` is true from now on. A guest
    /// that goes on is ended when its grace is over.
    pub fn request_shutdown(&self) {
        self.raise(Request::Finish);
    }

    /// Ends a guest at its next interruption, within milliseconds; at once if it waits.
    pub fn cancel(&self) {
        self.raise(Request::End);
    }

    fn raise(&self, to: Request) {
        // Ordering: Release, before anybody is woken: who is woken, or learns of the request otherwise, sees it.
        self.latest.fetch_max(to as u8, Ordering::Release);
        self.request.send_if_modified(|request| std::mem::replace(request, to.max(*request)) < to);
        self.signal.wake();
    }

    /// Whether the component was asked to finish.
    #[must_use]
    pub fn is_shutdown_requested(&self) -> bool {
        self.latest.load(Ordering::Acquire) >= Request::Finish as u8
    }

    /// Whether the component was told to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.latest.load(Ordering::Acquire) >= Request::End as u8
    }

    /// Returns once the component was asked to finish.
    pub async fn shutdown(&self) {
        self.reached(Request::Finish).await;
    }

    /// Returns once the component was told to end.
    pub async fn cancelled(&self) {
        self.reached(Request::End).await;
    }

    async fn reached(&self, request: Request) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.request.subscribe().wait_for(|reached| *reached >= request).await;
    }

    pub(crate) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }
}
