//! Park against wake: nobody sleeps once its condition is true.

use std::sync::Arc;

use loom::thread;

use crate::engine::wake::event_count::{EventCount, QuietRounds};
use crate::primitive::{AtomicU32, Ordering, offline, with_process_wide_barrier};

/// One condition, a notifier, and waiters that either find the condition or go to sleep.
struct Station {
    events: EventCount,
    head: AtomicU32,
    registered: [AtomicU32; 2],
}

impl Station {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            events: EventCount::new(),
            head: AtomicU32::new(0),
            registered: [AtomicU32::new(0), AtomicU32::new(0)],
        })
    }

    /// Publishes `head`, and wakes registered waiters if the event count says that somebody waits.
    fn publish(&self, head: u32, rounds: &mut QuietRounds) {
        self.head.store(head, Ordering::Release);
        if self.events.notified(rounds) {
            for registered in &self.registered {
                registered.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Returns `true` if the waiter goes to sleep, waiting for `head`.
    fn sleeps(&self, waiter: usize, head: u32) -> bool {
        self.registered[waiter].store(1, Ordering::Relaxed);
        let _ = self.events.arm();
        self.head.load(Ordering::Acquire) < head
    }

    /// Whether a waiter that went to sleep still does.
    fn was_forgotten(&self, waiter: usize) -> bool {
        self.registered[waiter].load(Ordering::Relaxed) != 0
    }
}

fn waiters_against_a_notifier(process_wide_barrier: bool, waiters: usize, messages: u32) {
    loom::model(move || {
        let station = Station::new();
        let sleepers: Vec<_> = (0..waiters)
            .map(|waiter| {
                let station = Arc::clone(&station);
                thread::spawn(move || station.sleeps(waiter, messages))
            })
            .collect();
        let mut rounds = QuietRounds::default();
        for head in 1..=messages {
            station.publish(head, &mut rounds);
        }
        if process_wide_barrier {
            offline();
        }
        for (waiter, sleeper) in sleepers.into_iter().enumerate() {
            let sleeps = sleeper.join().unwrap();
            assert!(!(sleeps && station.was_forgotten(waiter)), "waiter {waiter} sleeps for ever");
        }
    });
}

#[test]
fn notify_with_fences_forgets_no_waiter() {
    waiters_against_a_notifier(false, 1, 2);
    waiters_against_a_notifier(false, 2, 1);
}

#[test]
fn notify_with_a_process_wide_barrier_forgets_no_waiter() {
    with_process_wide_barrier(|| {
        waiters_against_a_notifier(true, 1, 3);
        waiters_against_a_notifier(true, 2, 1);
        waiters_against_a_notifier(true, 2, 2);
    });
}
