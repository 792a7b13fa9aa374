//! The host's table as the app uses it, and the wakers that wait for the host.
//!
//! # Threads
//! Only one thread at a time can be in the host's `wait`. Of all threads that have nothing to do, one
//! *leads*: it is in `wait`, and wakes the others as needed. The others are parked. When the leader continues
//! with its own work, another thread takes over.
//!
//! ```text
//!   thread of run    poll ─▶ wait ──────────▶ progress: wakes all wakers ─▶ poll …
//!   another          poll ─▶ registers, wakes the leader (which checks again), parks ─▶ woken: poll …
//! ```
//!
//! The host does not tell a second thread what it told the first. So a thread that finds nothing registers
//! its waker, then checks once more. It also makes the leader check again: a subscription that the thread
//! found empty was not armed when `wait` began.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::super::reactor::{Reactor, TimerKey};
use super::cancel;
use super::executor::Woken;
use super::types::{Error, Level};
use crate::abi::{FOREVER, Host, Text, WAKE_CANCELLED, WAKE_PROGRESS, WAKE_SHUTDOWN};
use crate::sys::clock;
use crate::units::Timestamp;

/// The current run.
static CURRENT: Mutex<Option<Runtime>> = Mutex::new(None);

/// The component's connection to its host, apart from messages. A handle of the run that created it.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    /// `None` if there is no host, as nobody has called `run`.
    host: Option<Host>,
    reactor: Mutex<Reactor>,
    /// Whether a thread is in `wait` or about to enter it.
    led: AtomicBool,
    /// Parked threads.
    parked: Mutex<Vec<Thread>>,
}

/// Locks a mutex whose value is intact after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runtime {
    fn new(host: Option<Host>) -> Self {
        Self(Arc::new(Inner {
            host,
            reactor: Mutex::default(),
            led: AtomicBool::new(false),
            parked: Mutex::default(),
        }))
    }

    /// The current run. Outside of one every call is refused as closed.
    #[must_use]
    pub fn current() -> Self {
        lock(&CURRENT).clone().unwrap_or_else(Self::detached)
    }

    /// A runtime without a host: nothing is granted, and nothing arrives.
    pub(super) fn detached() -> Self {
        static DETACHED: LazyLock<Runtime> = LazyLock::new(|| Runtime::new(None));
        DETACHED.clone()
    }

    /// Begins a run, unless there already is one.
    pub(super) fn enter(host: Host) -> Option<Self> {
        let mut current = lock(&CURRENT);
        if current.is_some() {
            return None;
        }
        let runtime = Self::new(Some(host));
        *current = Some(runtime.clone());
        Some(runtime)
    }

    /// Ends the run.
    pub(super) fn leave(self) {
        // Dropped once nothing is locked any more.
        let _run = lock(&CURRENT).take();
    }

    /// The host, or `closed` if there is none.
    #[inline(always)]
    pub(super) fn host(&self) -> Result<&Host, Error> {
        self.0.host.as_ref().ok_or(Error::Closed)
    }

    /// The parameter `name` that was given when the component was started, if any.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let host = self.host().ok()?;
        let mut value = Text::EMPTY;
        // SAFETY: the table is a host's, which was checked, and is called with its context; the name and the
        // place for the value are valid for the call.
        let found = unsafe { (host.parameter)(host.context, Text::of(name), &raw mut value) };
        // SAFETY: the host vouches for the value's bytes until `run` returns, and they are copied at once.
        if found == 0 { None } else { unsafe { value.str() }.map(str::to_owned) }
    }

    /// Writes a line to the component's log.
    pub fn log(&self, level: Level, text: &str) {
        if let Ok(host) = self.host() {
            // SAFETY: as in `parameter`; the text is valid for the call.
            unsafe { (host.log)(host.context, level.number(), Text::of(text)) };
        }
    }

    /// Sets the message of the error with which the component is about to end.
    pub fn fail(&self, text: &str) {
        if let Ok(host) = self.host() {
            // SAFETY: as in `parameter`; the text is valid for the call.
            unsafe { (host.fail)(host.context, Text::of(text)) };
        }
    }

    /// The time on the clock of the message times.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        clock::precise() // the host's clock: it is in the same process
    }

    /// Whether the component was asked to finish.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        // SAFETY: as in `parameter`.
        self.host().is_ok_and(|host| unsafe { (host.shutdown_requested)(host.context) } != 0)
    }

    /// Completes once the component is asked to finish.
    pub async fn shutdown(&self) {
        poll_fn(|context| {
            if self.shutdown_requested() {
                return Poll::Ready(());
            }
            self.wake_on_progress(context.waker());
            if self.shutdown_requested() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Wakes `waker` once, after the next `wait` that reports progress or the shutdown.
    pub(in super::super) fn wake_on_progress(&self, waker: &Waker) {
        self.with_reactor(|reactor| reactor.wake_on_progress(waker));
    }

    /// Wakes `waker` once at `deadline`.
    pub(in super::super) fn wake_at(&self, deadline: Timestamp, waker: &Waker) -> TimerKey {
        let key = self.with_reactor(|reactor| reactor.wake_at(deadline, waker));
        self.look_again();
        key
    }

    pub(in super::super) fn with_reactor<T>(&self, work: impl FnOnce(&mut Reactor) -> T) -> T {
        work(&mut lock(&self.0.reactor))
    }

    /// Makes the leader, if there is one, check again. A polling thread does not lead, so the leader is
    /// another thread.
    pub(in super::super) fn look_again(&self) {
        // Ordering: SeqCst pairs with the swap in `idle`: either the thread that is about to lead is seen
        // here, or it calls `wait` later than this thread has registered and looked.
        if self.0.led.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Makes `wait` return.
    pub(super) fn wake(&self) {
        if let Ok(host) = self.host() {
            // SAFETY: as in `parameter`.
            unsafe { (host.wake)(host.context) };
        }
    }

    /// Blocks this thread until `woken` may have been woken. Does not return once the component was
    /// cancelled.
    pub(super) fn idle(&self, woken: &Woken) {
        let Some(host) = &self.0.host else {
            return self.park(woken);
        };
        self.with_reactor(|reactor| reactor.untold()).iter().for_each(|attached| attached.flush());
        if self.0.led.swap(true, Ordering::SeqCst) {
            return self.follow(woken);
        }
        let reasons = if woken.begin_to_lead() { self.wait(host) } else { 0 };
        woken.go_on();
        // Ordering: SeqCst pairs with `follow`, which looks after it has put itself down.
        self.0.led.store(false, Ordering::SeqCst);
        lock(&self.0.parked).drain(..).for_each(|thread| thread.unpark());
        if reasons & WAKE_CANCELLED != 0 {
            cancel::unwind();
        }
    }

    /// Parks until woken, or until there is no leader any more.
    fn follow(&self, woken: &Woken) {
        lock(&self.0.parked).push(thread::current());
        if self.0.led.load(Ordering::SeqCst) && woken.begin_to_park() {
            thread::park();
        }
        woken.go_on();
    }

    /// Waits without a host: only timers and other threads can wake this thread.
    fn park(&self, woken: &Woken) {
        let next = self.with_reactor(|reactor| reactor.next_deadline());
        if woken.begin_to_park() {
            match next {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.as_nanos().saturating_sub(self.now().as_nanos());
                    thread::park_timeout(Duration::from_nanos(left));
                }
            }
        }
        woken.go_on();
        self.wake_due();
    }

    /// Calls the host's `wait` once, and wakes the wakers that it concerns. Returns the reasons.
    fn wait(&self, host: &Host) -> u32 {
        let next = self.with_reactor(|reactor| reactor.next_deadline());
        let timeout =
            next.map_or(FOREVER, |deadline| deadline.as_nanos().saturating_sub(self.now().as_nanos()));
        // SAFETY: as in `parameter`; `led` keeps other threads out.
        let reasons = unsafe { (host.wait)(host.context, timeout) };
        if reasons & (WAKE_PROGRESS | WAKE_SHUTDOWN | WAKE_CANCELLED) != 0 {
            self.with_reactor(Reactor::take_progress).into_iter().for_each(Waker::wake);
        }
        self.wake_due();
        reasons
    }

    fn wake_due(&self) {
        if self.with_reactor(|reactor| reactor.next_deadline()).is_some() {
            let now = self.now();
            while let Some(due) = self.with_reactor(|reactor| reactor.take_due(now)) {
                due.wake();
            }
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("host", &self.0.host.is_some()).finish_non_exhaustive()
    }
}
