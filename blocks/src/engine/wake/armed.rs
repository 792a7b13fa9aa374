//! [`Armed`] and [`Answered`]: which process waits for another one, and how it is woken.
//!
//! Each process writes its own files only, so it cannot record a waiter's wake-up in the waiter's file. So a
//! process counts the waits that it begins, in a word that the others read. The process that others wait for
//! compares the word with the value that it answered last. While no wait begins, that is one load.
//!
//! A wait that ended by itself, such as at a deadline, is answered once, in vain.

use std::fmt;

use crate::primitive::{AtomicU64, Ordering, essential, fence};

/// A wait of a thread that sleeps on the [`Rung`](super::rung::Rung) counter of the other process.
const THREAD: u64 = 1;
/// A wait of a party that the process's bell wakes.
const BELL: u64 = 1 << 32;

/// Counts the waits that a process has begun: in the low half those of threads that sleep on the other
/// process's counter, in the high half those for which its bell must ring. A carry from one half to the other
/// costs a ring.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Armed(AtomicU64);

/// How to wake the parties that have begun to wait. If neither is set, nothing wakes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wakers {
    /// Threads sleep on the other process's counter.
    pub(crate) threads: bool,
    /// The bell of their process wakes them.
    pub(crate) bell: bool,
}

impl Armed {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one more wait. The caller has registered how to wake it. Before it sleeps, it makes a barrier
    /// that reaches the other process, then checks its condition once more.
    pub(crate) fn announce(&self, wakers: Wakers) {
        let (threads, bell) = (if wakers.threads { THREAD } else { 0 }, if wakers.bell { BELL } else { 0 });
        // Ordering: Release pairs with the fence in `Answered::new_waits`.
        self.0.fetch_add(essential!(wait_counts, threads + bell, 0), Ordering::Release);
    }
}

/// The waits of one process that another one has answered.
pub(crate) struct Answered(AtomicU64);

impl Answered {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Returns how to wake the parties that have begun to wait since the last call. Called after their
    /// condition was made true, behind a light barrier. Whatever the other process writes, a call leads to at
    /// most two system calls.
    #[inline(always)]
    pub(crate) fn new_waits(&self, armed: &Armed) -> Option<Wakers> {
        // Ordering: Relaxed; if this misses a waiting party, that party's barrier comes later, and it sees
        // the condition when it checks once more.
        let now = armed.0.load(Ordering::Relaxed);
        if now == self.0.load(Ordering::Relaxed) { None } else { self.answer(now) }
    }

    /// Whether anybody may have begun to wait since [`new_waits`](Self::new_waits) was called last. Two
    /// loads.
    #[inline(always)]
    pub(crate) fn is_behind(&self, armed: &Armed) -> bool {
        // Ordering: Relaxed, as in `new_waits`.
        armed.0.load(Ordering::Relaxed) != self.0.load(Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn answer(&self, now: u64) -> Option<Wakers> {
        // Ordering: Relaxed; of two threads that answer the same wait, only one does. The other one need not:
        // its change is visible before the wake-up, or the waiter's barrier came later.
        let before = self.0.swap(now, Ordering::Relaxed);
        // Ordering: pairs with the Release in `Armed::announce`, so that a thread that sees the new value
        // also sees how to wake the waiter.
        fence(Ordering::Acquire);
        let changed = before ^ now;
        let wakers = Wakers { threads: changed as u32 != 0, bell: changed >> 32 != 0 };
        (wakers != Wakers::default()).then_some(wakers)
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOBODY: Wakers = Wakers { threads: false, bell: false };
    const THREADS: Wakers = Wakers { threads: true, bell: false };
    const BELLS: Wakers = Wakers { threads: false, bell: true };
    const BOTH: Wakers = Wakers { threads: true, bell: true };

    #[test]
    fn each_wait_is_answered_once_and_by_its_own_means() {
        let (armed, answered) = (Armed::new(), Answered::new());
        assert_eq!(answered.new_waits(&armed), None);
        armed.announce(NOBODY);
        assert_eq!(answered.new_waits(&armed), None);
        for (waits, expected) in [
            (vec![THREADS], THREADS),
            (vec![BELLS], BELLS),
            (vec![BOTH], BOTH),
            (vec![THREADS, THREADS, BELLS], BOTH),
            (vec![BELLS, BELLS], BELLS),
        ] {
            waits.into_iter().for_each(|wakers| armed.announce(wakers));
            assert_eq!(answered.new_waits(&armed), Some(expected));
            assert_eq!(answered.new_waits(&armed), None);
        }
    }

    #[test]
    fn no_wait_is_missed_when_a_count_wraps() {
        let (armed, answered) = (Armed(AtomicU64::new(u64::from(u32::MAX))), Answered::new());
        assert_eq!(answered.new_waits(&armed), Some(THREADS));
        armed.announce(THREADS);
        assert_eq!(answered.new_waits(&armed), Some(BOTH), "a ring for nothing");
        let (armed, answered) = (Armed(AtomicU64::new(u64::MAX)), Answered(AtomicU64::new(u64::MAX)));
        armed.announce(BELLS);
        assert_eq!(answered.new_waits(&armed), Some(BELLS));
    }
}
