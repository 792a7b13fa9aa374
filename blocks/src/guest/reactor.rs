//! Who is woken when the host's `wait` returns.
//!
//! Futures that cannot go on leave their waker here. The host does not say which subscription or publisher
//! may make progress, so all that wait for one are woken; a guest has few, and looking costs one host call each.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::bindings::blockcast::blocks::topics::{WakeReasons, wait};
use super::session;
use crate::units::Timestamp;

/// The timeout that stands for none.
const FOREVER: u64 = u64::MAX;

#[derive(Default)]
struct Reactor {
    /// Wait for messages, for blocks or for the shutdown.
    progress: Vec<Waker>,
    /// Wait for a time. In no order: a guest has few, and a map would be a tenth of its code.
    timers: Vec<Timer>,
    next_key: u64,
}

struct Timer {
    key: TimerKey,
    deadline: u64,
    waker: Waker,
}

thread_local! {
    static REACTOR: RefCell<Reactor> = RefCell::default();
}

/// The current time on the clock of the message times. One host call.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_nanos(session::now())
}

/// Completes when the component is asked to finish.
pub async fn shutdown() {
    poll_fn(|context| {
        if session::shutdown_requested() {
            return Poll::Ready(());
        }
        wake_on_progress(context.waker());
        Poll::Pending
    })
    .await;
}

/// Wakes `waker` once, after the next `wait` that reports progress or the shutdown.
pub(super) fn wake_on_progress(waker: &Waker) {
    REACTOR.with_borrow_mut(|reactor| {
        if !reactor.progress.iter().any(|known| known.will_wake(waker)) {
            reactor.progress.push(waker.clone());
        }
    });
}

/// Names a registered timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey(u64);

/// Wakes `waker` once when `deadline` has come, unless [`forget`] comes first.
pub(super) fn wake_at(deadline: Timestamp, waker: &Waker) -> TimerKey {
    REACTOR.with_borrow_mut(|reactor| {
        let key = TimerKey(reactor.next_key);
        reactor.next_key += 1;
        reactor.timers.push(Timer { key, deadline: deadline.as_nanos(), waker: waker.clone() });
        key
    })
}

/// Forgets a timer, if it has not come yet.
pub(super) fn forget(key: TimerKey) {
    // Dropped after the borrow has ended: dropping a waker may run code that comes back here.
    let _timer = REACTOR.with_borrow_mut(|reactor| {
        let at = reactor.timers.iter().position(|timer| timer.key == key)?;
        Some(reactor.timers.swap_remove(at))
    });
}

/// Suspends the guest until there is a reason to go on, then wakes whom it concerns.
pub(super) fn wait_and_wake() {
    let next = REACTOR.with_borrow(|reactor| reactor.timers.iter().map(|timer| timer.deadline).min());
    let timeout = next.map_or(FOREVER, |deadline| deadline.saturating_sub(session::now()));
    let reasons = wait(timeout);
    if reasons.intersects(WakeReasons::PROGRESS | WakeReasons::SHUTDOWN) {
        let woken = REACTOR.with_borrow_mut(|reactor| std::mem::take(&mut reactor.progress));
        woken.into_iter().for_each(Waker::wake);
    }
    if next.is_some() {
        wake_due(session::now());
    }
}

fn wake_due(now: u64) {
    while let Some(due) = REACTOR.with_borrow_mut(|reactor| {
        let at = reactor.timers.iter().position(|timer| timer.deadline <= now)?;
        Some(reactor.timers.swap_remove(at))
    }) {
        due.waker.wake();
    }
}

/// `duration` from now; the far future where that exceeds the clock.
pub(super) fn after(duration: Duration) -> Timestamp {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Timestamp::from_nanos(session::now().saturating_add(nanos))
}
