//! Asking a guest to stop, and stopping it.

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

/// What a component was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Request {
    GoOn = 0,
    Finish = 1,
    End = 2,
}

/// The outside's handle on a component: how it is asked to stop, and what can be seen of it while it runs. Shared with
/// its runs, one after the other. What was requested stays requested.
pub struct ComponentControl {
    request: watch::Sender<Request>,
    /// The same, for looking at it often.
    latest: AtomicU8,
    /// When it was asked to finish, or told to end.
    asked_at: OnceLock<Instant>,
    /// What the guest's `wait` sleeps on.
    signal: Arc<Signal>,
    /// How often somebody has asked for the counters.
    asked: AtomicU64,
    /// The counters, and which request they answer.
    shown: watch::Sender<(u64, ComponentStats)>,
    clock: ComputingClock,
    /// What its publishers have left behind, over all its runs.
    account: ChannelAccount,
    /// Counts a run whose counters can be read at any time.
    counter: Mutex<Option<Counter>>,
}

/// The counters of a run, unless it is over or cannot be asked now.
pub(crate) type Counter = Arc<dyn Fn() -> Option<ComponentStats> + Send + Sync>;

impl ComponentControl {
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
            asked_at: OnceLock::new(),
            signal: Signal::named(name),
            asked: AtomicU64::new(0),
            shown: watch::Sender::new((0, ComponentStats::default())),
            clock: ComputingClock::default(),
            account: ChannelAccount::default(),
            counter: Mutex::default(),
        })
    }

    /// Asks the component to finish: a guest's `wait` returns and `shutdown-requested` is true from now on. A guest
    /// that goes on is ended when its grace is over.
    pub fn request_shutdown(&self) {
        self.raise(Request::Finish);
    }

    /// Ends a guest at once if it waits, or else at its next host call, or its next loop or function call within milliseconds.
    pub fn cancel(&self) {
        self.raise(Request::End);
    }

    fn raise(&self, to: Request) {
        self.asked_at.get_or_init(Instant::now);
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

    /// When the component was asked to finish, if it was.
    pub(crate) fn asked_at(&self) -> Option<Instant> {
        self.asked_at.get().copied()
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
        let mut requests = self.request.subscribe();
        let _ = with_shielded_waker(requests.wait_for(|reached| *reached >= request)).await;
    }

    /// Asks the guest's host side for its counters; what is returned numbers the request.
    pub(crate) fn ask_stats(&self) -> u64 {
        let asked = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        // Called when nothing is locked: it waits, and others ask meanwhile.
        let counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(stats) = counter.and_then(|counter| counter()) {
            self.show_stats(asked, stats);
            return asked;
        }
        // If it waits, it looks around and sleeps on; if it computes, it looks at its next tick.
        self.signal.wake();
        asked
    }

    /// A run begins whose counters `counter` reads.
    pub(crate) fn count_with(&self, counter: Counter) {
        *self.counter.lock().unwrap_or_else(PoisonError::into_inner) = Some(counter);
    }

    /// The request that was not answered yet, if there is one.
    pub(crate) fn stats_asked(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::Acquire);
        (self.shown.borrow().0 != asked).then_some(asked)
    }

    /// Answers requests up to `asked`.
    pub(crate) fn show_stats(&self, asked: u64, stats: ComponentStats) {
        // A later request may be answered before an earlier one.
        self.shown.send_if_modified(|shown| {
            let is_news = asked >= shown.0;
            if is_news {
                *shown = (asked, stats);
            }
            is_news
        });
    }

    /// The counters as they were shown last.
    pub(crate) fn shown_stats(&self) -> ComponentStats {
        self.shown.borrow().1
    }

    /// Returns once a request was answered.
    pub(crate) async fn stats_shown(&self, asked: u64) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.shown.subscribe().wait_for(|(answered, _)| *answered >= asked).await;
    }

    /// Processor time that the current run has used, as of its last wait or tick.
    pub(crate) fn computed(&self) -> Duration {
        self.clock.computed()
    }

    pub(crate) fn clock(&self) -> &ComputingClock {
        &self.clock
    }

    /// What the channels of its publishers take.
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
