//! The wakers to wake when the host's `wait` returns.
//!
//! Futures that cannot continue leave their waker here. The host does not say which subscription or publisher
//! may make progress, so all wakers are woken. A component has few, and each check costs one host call.

use std::sync::{Arc, Weak};
use std::task::Waker;

use super::attached::Attached;
use crate::units::Timestamp;

/// The wakers of a component.
#[derive(Default)]
pub(super) struct Reactor {
    /// Waiting for messages, blocks or the shutdown.
    progress: Vec<Waker>,
    /// Waiting for a time. Unordered: a component has few timers, and a map would be a tenth of a guest's
    /// code.
    timers: Vec<Timer>,
    next_key: u64,
    /// All subscriptions, and some that were dropped.
    attached: Vec<Weak<Attached>>,
}

struct Timer {
    key: TimerKey,
    deadline: Timestamp,
    waker: Waker,
}

/// Names a registered timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey(u64);

impl Reactor {
    /// Wakes `waker` once, after the next `wait` that reports progress or the shutdown.
    pub(super) fn wake_on_progress(&mut self, waker: &Waker) {
        if !self.progress.iter().any(|known| known.will_wake(waker)) {
            self.progress.push(waker.clone());
        }
    }

    /// Wakes `waker` once at `deadline`, unless [`forget`](Self::forget) comes first.
    pub(super) fn wake_at(&mut self, deadline: Timestamp, waker: &Waker) -> TimerKey {
        let key = TimerKey(self.next_key);
        self.next_key += 1;
        self.timers.push(Timer { key, deadline, waker: waker.clone() });
        key
    }

    /// Forgets a timer that is not due yet. The caller drops the waker once nothing is borrowed or locked:
    /// dropping it may run code that comes back here.
    pub(super) fn forget(&mut self, key: TimerKey) -> Option<Waker> {
        let at = self.timers.iter().position(|timer| timer.key == key)?;
        Some(self.timers.swap_remove(at).waker)
    }

    /// The time of the first timer.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.iter().map(|timer| timer.deadline).min()
    }

    /// Takes all wakers that wait for progress.
    pub(super) fn take_progress(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.progress)
    }

    /// Takes the waker of the first timer that is due.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Waker> {
        let due = self.timers.iter().enumerate().filter(|(_, timer)| timer.deadline <= now);
        let (at, _) = due.min_by_key(|(_, timer)| timer.deadline)?;
        Some(self.timers.swap_remove(at).waker)
    }

    /// Adds a subscription.
    pub(super) fn attach(&mut self, attached: &Arc<Attached>) {
        self.attached.retain(|known| known.strong_count() > 0);
        self.attached.push(Arc::downgrade(attached));
    }

    /// Subscriptions with releases that the host does not know of. [Flush](Attached::flush) them before the
    /// component waits, once nothing is borrowed or locked.
    pub(super) fn untold(&self) -> Vec<Arc<Attached>> {
        let attached = self.attached.iter().filter_map(Weak::upgrade);
        attached.filter(|attached| attached.is_untold()).collect()
    }
}
