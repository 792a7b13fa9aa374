//! Who is woken when the host's `wait` returns.
//!
//! Futures that cannot go on leave their waker here. The host does not say which subscription or publisher
//! may make progress, so all that wait for one are woken; a component has few, and looking costs one host call each.

use std::sync::{Arc, Weak};
use std::task::Waker;

use super::attached::Attached;
use crate::units::Timestamp;

/// The wakers of a component.
#[derive(Default)]
pub(super) struct Reactor {
    /// Wait for messages, for blocks or for the shutdown.
    progress: Vec<Waker>,
    /// Wait for a time. In no order: a component has few, and a map would be a tenth of a guest's code.
    timers: Vec<Timer>,
    next_key: u64,
    /// Every subscription, and some that are gone.
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

    /// Wakes `waker` once when `deadline` has come, unless [`forget`](Self::forget) comes first.
    pub(super) fn wake_at(&mut self, deadline: Timestamp, waker: &Waker) -> TimerKey {
        let key = TimerKey(self.next_key);
        self.next_key += 1;
        self.timers.push(Timer { key, deadline, waker: waker.clone() });
        key
    }

    /// Forgets a timer, if it has not come yet. The waker is for the caller to drop, once nothing is borrowed or locked:
    /// dropping one may run code that comes back here.
    pub(super) fn forget(&mut self, key: TimerKey) -> Option<Waker> {
        let at = self.timers.iter().position(|timer| timer.key == key)?;
        Some(self.timers.swap_remove(at).waker)
    }

    /// When the first timer is due.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.iter().map(|timer| timer.deadline).min()
    }

    /// All who wait for progress, to be woken.
    pub(super) fn take_progress(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.progress)
    }

    /// Of those whose time has come the first, to be woken.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Waker> {
        let due = self.timers.iter().enumerate().filter(|(_, timer)| timer.deadline <= now);
        let (at, _) = due.min_by_key(|(_, timer)| timer.deadline)?;
        Some(self.timers.swap_remove(at).waker)
    }

    /// Takes a new subscription in.
    pub(super) fn attach(&mut self, attached: &Arc<Attached>) {
        self.attached.retain(|known| known.strong_count() > 0);
        self.attached.push(Arc::downgrade(attached));
    }

    /// Subscriptions of which the host does not know everything that is released. To be [told](Attached::flush) before the
    /// component waits, when nothing is borrowed or locked any more.
    pub(super) fn untold(&self) -> Vec<Arc<Attached>> {
        let attached = self.attached.iter().filter_map(Weak::upgrade);
        attached.filter(|attached| attached.is_untold()).collect()
    }
}
