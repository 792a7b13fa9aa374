//! The host as a guest sees it, and the wakers that wait for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::super::reactor::{Reactor, TimerKey};
use super::Level;
use super::bindings::blockcast::blocks::session;
use super::bindings::blockcast::blocks::topics::{WakeReasons, wait};
use crate::units::Timestamp;

/// The timeout of a `wait` without a timeout.
const FOREVER: u64 = u64::MAX;

thread_local! {
    static REACTOR: RefCell<Reactor> = RefCell::default();
}

/// The component's connection to its host, apart from messages. There is only one host, so this is just a
/// name for it.
#[derive(Clone, Copy, Debug)]
pub struct Runtime(());

impl Runtime {
    /// The host that this component runs in.
    #[must_use]
    pub fn current() -> Self {
        Self(())
    }

    /// The parameter `name` that was given when the component was started, if any.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        session::parameter(name)
    }

    /// Writes a line to the component's log.
    pub fn log(&self, level: Level, text: &str) {
        session::log(level, text);
    }

    /// Sets the message of the error with which the component is about to end.
    pub fn fail(&self, text: &str) {
        session::fail(text);
    }

    /// The time on the clock of the message times. One host call.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(session::now())
    }

    /// Whether the component was asked to finish.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        session::shutdown_requested()
    }

    /// Completes once the component is asked to finish.
    pub async fn shutdown(&self) {
        poll_fn(|context| {
            if self.shutdown_requested() {
                return Poll::Ready(());
            }
            self.wake_on_progress(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Wakes `waker` once, after the next `wait` that reports progress or the shutdown.
    pub(in super::super) fn wake_on_progress(&self, waker: &Waker) {
        self.with_reactor(|reactor| reactor.wake_on_progress(waker));
    }

    /// Wakes `waker` once at `deadline`.
    pub(in super::super) fn wake_at(&self, deadline: Timestamp, waker: &Waker) -> TimerKey {
        self.with_reactor(|reactor| reactor.wake_at(deadline, waker))
    }

    /// Does nothing. A guest has one thread: while it polls, nobody waits.
    pub(in super::super) fn look_again(&self) {}

    pub(in super::super) fn with_reactor<T>(&self, work: impl FnOnce(&mut Reactor) -> T) -> T {
        REACTOR.with_borrow_mut(work)
    }

    /// Suspends the guest until there is a reason to continue, then wakes the wakers that it concerns.
    pub(super) fn wait_and_wake(&self) {
        self.with_reactor(|reactor| reactor.untold()).iter().for_each(|attached| attached.flush());
        let next = self.with_reactor(|reactor| reactor.next_deadline());
        let timeout = next.map_or(FOREVER, |deadline| deadline.as_nanos().saturating_sub(session::now()));
        let reasons = wait(timeout);
        if reasons.intersects(WakeReasons::PROGRESS | WakeReasons::SHUTDOWN) {
            self.with_reactor(Reactor::take_progress).into_iter().for_each(Waker::wake);
        }
        if next.is_some() {
            let now = self.now();
            while let Some(due) = self.with_reactor(|reactor| reactor.take_due(now)) {
                due.wake();
            }
        }
    }
}
