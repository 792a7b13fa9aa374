//! The counter on which threads of other processes sleep: [`Rung`].

use std::fmt;

use super::futex::{self, Expected};
use crate::primitive::{AtomicU32, LoadAcquire as _, Ordering, essential};

/// Counts how often its process has woken others, in a file that the others may only read. A thread of
/// another process sleeps until it changes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Rung(AtomicU32);

impl Rung {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Changes the counter. Call this after the condition was made true, and before waking anybody.
    pub(crate) fn raise(&self) {
        // Ordering: Release pairs with the Acquire in `count`: threads that see the change see the
        // condition.
        self.0.fetch_add(essential!(rung_changes, 1, 0), Ordering::Release);
    }

    /// Wakes all threads that sleep on the counter. Never waits. One system call, which takes longer the more
    /// threads there are.
    pub(crate) fn wake_threads(&self) {
        futex::wake_shared(&self.0);
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.load_acquire()
    }

    /// Returns the counter for a thread that sleeps on it unless it has changed since it was `seen`.
    pub(crate) fn unchanged_since(&self, seen: u32) -> Expected<'_> {
        Expected { word: &self.0, value: seen }
    }
}

/// The owner of a counter, which keeps the counter's memory.
pub(crate) trait Rings: fmt::Debug + Send + Sync {
    fn rung(&self) -> &Rung;

    /// Whether the counter no longer changes. The thread that found out has woken the waiters.
    fn is_over(&self) -> bool;
}

/// The value of another process's counter that was last acted on.
#[derive(Debug)]
pub(crate) struct Heard(AtomicU32);

impl Heard {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether the counter has changed since the last call.
    pub(crate) fn is_new(&self, rung: &Rung) -> bool {
        let count = rung.count();
        // Ordering: Relaxed; one thread answers the bell.
        self.0.swap(count, Ordering::Relaxed) != count
    }
}
