//! The counters of other processes on which a thread sleeps: [`WatchList`].

use std::cell::Cell;
use std::sync::Arc;
use std::task::Waker;

use super::armed::{Armed, Wakers};
use super::futex::{self, Expected};
use super::rung::Rings;
use super::signal::Signal;
use crate::primitive::essential;

/// The counters of other processes on which a thread sleeps, besides its own word.
///
/// A counter stays in the list until it changes, or until the thread no longer waits. So a party that was not
/// polled again, because another one was ready, is still woken.
#[derive(Debug, Default)]
pub(crate) struct WatchList(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    source: Arc<dyn Rings>,
    /// The count at which the thread may sleep.
    seen: u32,
    /// The party that waits for the change.
    signal: Arc<Signal>,
}

thread_local! {
    /// The memory of an empty list, so that waiting does not allocate every time.
    static SPARE: Cell<Vec<Watched>> = const { Cell::new(Vec::new()) };
}

impl WatchList {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a counter that changes once the party must be woken. Returns `false` if there is no room, or if
    /// the system cannot put a thread to sleep on several words.
    fn add(&mut self, source: Arc<dyn Rings>, signal: &Arc<Signal>) -> bool {
        let is_same = |watched: &Watched| {
            std::ptr::eq(watched.source.rung(), source.rung()) && Arc::ptr_eq(&watched.signal, signal)
        };
        // Keep an older count: the signal may have another party, which has not seen later changes.
        if self.0.iter().any(is_same) {
            return true;
        }
        if self.0.len() + 1 >= futex::MAX_WORDS || !futex::waits_on_several() {
            return false;
        }
        if self.0.capacity() == 0 {
            self.0 = SPARE.try_with(Cell::take).unwrap_or_default();
        }
        let seen = source.rung().count();
        self.0.push(Watched { source, seen, signal: Arc::clone(signal) });
        true
    }

    /// Removes the counters that have changed, or that no longer change. The thread is about to poll
    /// everything, which wakes the parties that wait for them. `own` is its waker.
    pub(crate) fn remove_changed(&mut self, own: &Waker) {
        self.0.retain(|watched| {
            let is_unchanged = watched.source.rung().count() == watched.seen;
            if !is_unchanged {
                watched.signal.woken_by(own);
            }
            is_unchanged && !watched.source.is_over()
        });
    }

    /// The counters to sleep on.
    pub(crate) fn expected(&self) -> impl Iterator<Item = Expected<'_>> {
        self.0.iter().map(|watched| {
            let rung = watched.source.rung();
            rung.unchanged_since(essential!(watch_seen, watched.seen, rung.count()))
        })
    }
}

impl Drop for WatchList {
    fn drop(&mut self) {
        if self.0.capacity() > 0 {
            self.0.clear();
            let spare = std::mem::take(&mut self.0);
            // It is gone if this is the destructor of another thread-local variable.
            let _ = SPARE.try_with(|place| place.set(spare));
        }
    }
}

/// Announces that the party of `signal` is about to wait for other processes: `sources`, whose processes read
/// `armed`. If a thread waits, `list` is its list, provided that it can sleep on the sources' counters. The
/// bell wakes all other parties. Returns whether `barrier` succeeded, which must reach all of the processes.
#[must_use]
pub(crate) fn announce(
    armed: &Armed,
    sources: impl Iterator<Item = Arc<dyn Rings>>,
    list: Option<&mut WatchList>,
    signal: &Arc<Signal>,
    barrier: impl FnOnce() -> bool,
) -> bool {
    let mut wakers = Wakers::default();
    let mut list = list;
    for source in sources {
        let is_watched = list.as_deref_mut().is_some_and(|list| list.add(source, signal));
        wakers.threads |= is_watched;
        wakers.bell |= !is_watched;
    }
    if wakers != Wakers::default() {
        armed.announce(wakers);
    }
    // Ordering: either the other processes see the word, or our next check sees what they have changed.
    barrier()
}
