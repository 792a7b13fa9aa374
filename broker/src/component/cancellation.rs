//! [`ComponentControl`]: asks a component to stop, stops it, and reads its counters.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use blockcast_blocks::Signal;
use blockcast_blocks::shield::with_shielded_waker;
use tokio::sync::watch;

use super::clock::ComputingClock;
use super::stats::ComponentStats;
use crate::hosting::account::ChannelAccount;

/// The strongest request to a component so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Request {
    Continue = 0,
    Finish = 1,
    End = 2,
}

/// Controls a component from outside: asks it to stop, and observes it while it runs. All runs of the
/// component share it. A request cannot be withdrawn.
pub struct ComponentControl {
    request: watch::Sender<Request>,
    /// The same request, for frequent checks.
    latest: AtomicU8,
    /// When the component was first asked to finish or to end.
    asked_at: OnceLock<Instant>,
    /// The signal that the component's `wait` sleeps on.
    signal: Arc<Signal>,
    /// Number of requests for the counters.
    asked: AtomicU64,
    /// The counters, with the number of the request that they answer.
    shown: watch::Sender<(u64, ComponentStats)>,
    clock: ComputingClock,
    /// Charges for the channels of its publishers, over all its runs.
    account: ChannelAccount,
    /// Reads the counters of a run at any time, if its host can do that.
    counter: Mutex<Option<Counter>>,
}

/// Reads the counters of a run. Returns `None` if the run is over or cannot answer now.
pub(crate) type Counter = Arc<dyn Fn() -> Option<ComponentStats> + Send + Sync>;

impl ComponentControl {
    /// Creates the control of a component that has not been asked to stop.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::named("")
    }

    /// Like [`new`](Self::new), for a component with this name in statistics.
    #[must_use]
    pub fn named(name: &str) -> Arc<Self> {
        Arc::new(Self {
            request: watch::Sender::new(Request::Continue),
            latest: AtomicU8::new(Request::Continue as u8),
            asked_at: OnceLock::new(),
            signal: Signal::named(name),
            asked: AtomicU64::new(0),
            shown: watch::Sender::new((0, ComponentStats::default())),
            clock: ComputingClock::default(),
            account: ChannelAccount::default(),
            counter: Mutex::default(),
        })
    }

    /// Asks the component to finish: its `wait` returns, and `shutdown-requested` is true from now on. If it
    /// does not finish within the grace period, it is ended.
    pub fn request_shutdown(&self) {
        self.raise(Request::Finish);
    }

    /// Ends the component. A guest ends at once if it waits, otherwise at its next host call, or within
    /// milliseconds at its next loop or function call.
    pub fn cancel(&self) {
        self.raise(Request::End);
    }

    fn raise(&self, to: Request) {
        self.asked_at.get_or_init(Instant::now);
        // Ordering: Release pairs with the Acquire loads below. Stored before anybody is woken, so that they
        // see it.
        self.latest.fetch_max(to as u8, Ordering::Release);
        self.request.send_if_modified(|request| std::mem::replace(request, to.max(*request)) < to);
        self.signal.wake();
    }

    /// Returns `true` if the component has been asked to finish.
    #[must_use]
    pub fn is_shutdown_requested(&self) -> bool {
        self.latest.load(Ordering::Acquire) >= Request::Finish as u8
    }

    /// Returns `true` if the component has been cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.latest.load(Ordering::Acquire) >= Request::End as u8
    }

    /// When the component was first asked to stop, if it was.
    pub(crate) fn asked_at(&self) -> Option<Instant> {
        self.asked_at.get().copied()
    }

    /// Waits until the component is asked to finish.
    pub async fn shutdown(&self) {
        self.reached(Request::Finish).await;
    }

    /// Waits until the component is cancelled.
    pub async fn cancelled(&self) {
        self.reached(Request::End).await;
    }

    async fn reached(&self, request: Request) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let mut requests = self.request.subscribe();
        let _ = with_shielded_waker(requests.wait_for(|reached| *reached >= request)).await;
    }

    /// Asks for the counters. Returns the number of the request.
    pub(crate) fn ask_stats(&self) -> u64 {
        let asked = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        // Called without the lock, since it waits and others may ask meanwhile.
        let counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(stats) = counter.and_then(|counter| counter()) {
            self.show_stats(asked, stats);
            return asked;
        }
        // A guest that waits wakes up, answers and waits again. One that computes answers at its next tick.
        self.signal.wake();
        asked
    }

    /// Sets how to read the counters of the run that begins.
    pub(crate) fn count_with(&self, counter: Counter) {
        *self.counter.lock().unwrap_or_else(PoisonError::into_inner) = Some(counter);
    }

    /// The latest request, if it has not been answered yet.
    pub(crate) fn stats_asked(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::Acquire);
        (self.shown.borrow().0 != asked).then_some(asked)
    }

    /// Answers requests up to `asked`.
    pub(crate) fn show_stats(&self, asked: u64, stats: ComponentStats) {
        // A later request may have been answered already.
        self.shown.send_if_modified(|shown| {
            let is_news = asked >= shown.0;
            if is_news {
                *shown = (asked, stats);
            }
            is_news
        });
    }

    /// The latest counters.
    pub(crate) fn shown_stats(&self) -> ComponentStats {
        self.shown.borrow().1
    }

    /// Waits until a request has been answered.
    pub(crate) async fn stats_shown(&self, asked: u64) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.shown.subscribe().wait_for(|(answered, _)| *answered >= asked).await;
    }

    /// Processor time of the current run, as of its last wait or tick.
    pub(crate) fn computed(&self) -> Duration {
        self.clock.computed()
    }

    pub(crate) fn clock(&self) -> &ComputingClock {
        &self.clock
    }

    /// Charges for the channels of its publishers.
    pub(crate) fn account(&self) -> &ChannelAccount {
        &self.account
    }

    pub(crate) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }
}

impl fmt::Debug for ComponentControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentControl").field("request", &*self.request.borrow()).finish_non_exhaustive()
    }
}
