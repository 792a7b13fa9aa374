//! The signals of a channel's subscribers: read by whoever wakes them, replaced when somebody joins or
//! leaves.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_epoch::{Atomic, Owned};
// crossbeam-epoch takes the orderings of `core`, even if loom replaces ours.
use std::sync::atomic::Ordering;

use crate::engine::wake::signal::Signal;

/// A set of signals. Waking reads it without a lock, under a `crossbeam_epoch` guard. Joining and leaving
/// replace it as a whole, and the old set is freed once nobody reads it any more.
pub(crate) struct Roster {
    signals: Atomic<Vec<Arc<Signal>>>,
    joining: Mutex<()>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self { signals: Atomic::new(Vec::new()), joining: Mutex::new(()) }
    }

    /// Wakes everyone who waits. Never blocks. The guard does not outlive the call.
    pub(crate) fn wake_all(&self) {
        let guard = crossbeam_epoch::pin();
        // SAFETY: the pointer is never null and what it points to is freed through `defer_destroy` only,
        // after every guard that was pinned while it could be loaded.
        let signals = unsafe { self.signals.load(Ordering::Acquire, &guard).deref() };
        for signal in signals {
            signal.wake();
        }
    }

    pub(crate) fn add(&self, signal: &Arc<Signal>) {
        self.replace(|signals| signals.push(Arc::clone(signal)));
    }

    /// Removes one registration of `signal`.
    pub(crate) fn remove(&self, signal: &Arc<Signal>) {
        self.replace(|signals| {
            if let Some(at) = signals.iter().position(|known| Arc::ptr_eq(known, signal)) {
                signals.swap_remove(at);
            }
        });
    }

    fn replace(&self, change: impl FnOnce(&mut Vec<Arc<Signal>>)) {
        let _joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = crossbeam_epoch::pin();
        let old = self.signals.load(Ordering::Acquire, &guard);
        // SAFETY: as in `wake_all`; the lock keeps other replacements out.
        let mut signals = unsafe { old.deref() }.clone();
        change(&mut signals);
        self.signals.store(Owned::new(signals), Ordering::Release);
        // SAFETY: `old` was unlinked by the store above under the lock, so no later guard can load it and
        // nobody else destroys it.
        unsafe { guard.defer_destroy(old) };
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        let signals = std::mem::replace(&mut self.signals, Atomic::null());
        // SAFETY: `&mut self`: nobody else can load the pointer any more, and it was not handed to
        // `defer_destroy`.
        drop(unsafe { signals.try_into_owned() });
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").finish_non_exhaustive()
    }
}
