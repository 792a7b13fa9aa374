//! The clock that interrupts computing guests: [`Ticker`], and a guest's view of it: [`Pulse`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use blockcast_blocks::Process;

/// How often a computing guest is interrupted, to let other tasks run and to check its limits.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Tells a guest that a tick has passed, for the cost of one load.
///
/// The engine interrupts wasm code only at loops and function entries. Straight-line code, which runs from
/// one host call to the next, is interrupted at host calls, by this.
#[derive(Debug)]
pub(crate) struct Pulse {
    ticks: Arc<AtomicU64>,
    seen: u64,
}

impl Pulse {
    /// Whether a tick has passed since the last [`catch_up`](Self::catch_up).
    #[inline]
    pub(crate) fn has_moved(&self) -> bool {
        // Ordering: Relaxed. A guest that sees a tick a little later is interrupted a little later.
        self.ticks.load(Ordering::Relaxed) != self.seen
    }

    pub(crate) fn catch_up(&mut self) {
        self.seen = self.ticks.load(Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Clock {
    guests: usize,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    clock: Mutex<Clock>,
    changed: Condvar,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Clock)) {
        // No code panics while the lock is held, and the counters would be right even then.
        change(&mut self.clock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

/// The thread that advances the engine's epoch while there are guests. Ends when dropped.
pub(crate) struct Ticker {
    process: Process,
    shared: Arc<Shared>,
    ticks: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Calls `interrupt` with every tick while there are guests.
    pub(crate) fn start(interrupt: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        // Apart from other shared data, so that its cache line is written only once per tick.
        let ticks = Arc::new(AtomicU64::new(0));
        let (clock, counter) = (Arc::clone(&shared), Arc::clone(&ticks));
        let thread = thread::Builder::new()
            .name("blockcast-epoch".to_owned())
            .spawn(move || tick(&clock, &counter, interrupt))?;
        Ok(Self { process: Process::current(), shared, ticks, thread: Some(thread) })
    }

    /// A guest's view of the clock.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse { ticks: Arc::clone(&self.ticks), seen: 0 }
    }

    /// Counts one more guest.
    pub(crate) fn begin(&self) {
        self.shared.change(|clock| clock.guests += 1);
    }

    /// Counts one guest less. Does nothing in a forked child, which has none of them.
    pub(crate) fn end(&self) {
        if self.process.is_current() {
            self.shared.change(|clock| clock.guests -= 1);
        }
    }
}

fn tick(shared: &Shared, ticks: &AtomicU64, interrupt: impl Fn()) {
    let mut clock = shared.clock.lock().unwrap_or_else(PoisonError::into_inner);
    while !clock.stopped {
        if clock.guests == 0 {
            clock = shared.changed.wait(clock).unwrap_or_else(PoisonError::into_inner);
        } else {
            drop(clock);
            thread::sleep(TICK);
            interrupt();
            ticks.fetch_add(1, Ordering::Relaxed);
            clock = shared.clock.lock().unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // In a forked child, the thread belongs to the parent, which may have held the lock.
            std::mem::forget(self.thread.take());
            return;
        }
        self.shared.change(|clock| clock.stopped = true);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; if it did, there would be nothing to end.
            let _ = thread.join();
        }
    }
}
