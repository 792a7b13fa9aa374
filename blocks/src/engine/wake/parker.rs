//! [`Parker`]: the word that a thread sleeps on.

use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

use super::futex::{self, Expected};
use super::watch::WatchList;
use crate::primitive::{AtomicU32, Ordering, essential};

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
const PARKED: u32 = u32::MAX;

/// A thread's own word. Like the parker of the standard library's threads, except that the thread can sleep
/// on counters of other processes at the same time.
#[derive(Debug)]
pub(crate) struct Parker(AtomicU32);

impl Parker {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(EMPTY))
    }

    /// Sleeps until [`unpark`](Self::unpark) is called, a counter in the list changes, or `timeout` has
    /// passed. Does not sleep if `unpark` was called since the last call. May return earlier. Only the
    /// parker's thread calls this.
    pub(crate) fn park(&self, list: &WatchList, timeout: Option<Duration>) {
        // Ordering: Acquire pairs with the Release in `unpark`: we see why we were woken.
        if self.0.fetch_sub(1, Ordering::Acquire) != NOTIFIED {
            let own = Expected { word: &self.0, value: PARKED };
            if list.is_empty() {
                futex::wait(own, timeout);
            } else {
                // If the system refuses, the caller polls again, and then finds out that it cannot rely on
                // this.
                futex::wait_on_several(own, list.expected(), timeout);
            }
            self.0.swap(EMPTY, Ordering::Acquire);
        }
    }

    /// Wakes the thread, or prevents its next sleep.
    pub(crate) fn unpark(&self) {
        // Ordering: Release, as explained there.
        if self.0.swap(NOTIFIED, Ordering::Release) == PARKED {
            essential!(wake_parked, futex::wake_own(&self.0));
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}
