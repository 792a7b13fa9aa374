//! Atomics and fences: the real ones, or loom's while a model is being checked.
//!
//! Nothing else in this crate names `std::sync::atomic`, so that every protocol can be explored by loom
//! (`RUSTFLAGS="--cfg loom"`).

#![cfg_attr(
    blockcast_library,
    allow(dead_code, unused_imports, reason = "an app that is a library only publishes")
)]

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(any(loom, blockcast_library)))]
pub(crate) use futures::task::AtomicWaker;
#[cfg(loom)]
pub(crate) use modelled::{AtomicWaker, begin, interrupts_itself};
#[cfg(all(test, loom))]
pub(crate) use modelled::{interruptible, offline, with_process_wide_barrier};
#[cfg(any(loom, blockcast_mutations))]
pub(crate) use mutations::{Weakest, is_mutated};

/// One half of an asymmetric barrier. Costs nothing, and orders earlier stores before later loads as soon as
/// the other side executes [`heavy_barrier`].
#[inline(always)]
pub(crate) fn light_barrier() {
    #[cfg(not(loom))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(loom)]
    modelled::interrupt_point();
}

/// Marks a place between two accesses that a barrier of another thread may reach first, so that models let
/// it. A real one may reach a thread anywhere.
#[cfg(not(blockcast_library))]
#[inline(always)]
pub(crate) fn reachable_by_barriers() {
    #[cfg(loom)]
    modelled::interrupt_point();
}

/// The other half. Orders this thread's earlier stores before its later loads, and makes every running thread
/// of the process pass a full fence. 0.14 µs alone, about 10 µs while a second thread runs. Returns `false`
/// if the system refused.
#[cfg(not(blockcast_library))]
#[must_use]
pub(crate) fn heavy_barrier() -> bool {
    #[cfg(not(loom))]
    return crate::sys::barrier::process_wide();
    #[cfg(loom)]
    return modelled::interrupt();
}

/// Like [`heavy_barrier`], for the running threads of every process that
/// [takes part](crate::sys::barrier::register_machine_wide) in channels of others. 0.5 µs alone, about 6 µs
/// while another process runs. Returns `false` if the system refused.
#[cfg(not(blockcast_library))]
#[must_use]
pub(crate) fn machine_barrier() -> bool {
    #[cfg(not(loom))]
    return crate::sys::barrier::machine_wide();
    #[cfg(loom)]
    return modelled::interrupt();
}

/// Loads with Acquire from memory that another process writes and this one may only read.
///
/// Rust permits only relaxed loads there: an acquire load may be an instruction that writes.
#[cfg(not(blockcast_library))]
pub(crate) trait LoadAcquire {
    type Value;

    fn load_acquire(&self) -> Self::Value;
}

#[cfg(not(blockcast_library))]
impl LoadAcquire for AtomicU64 {
    type Value = u64;

    #[inline(always)]
    fn load_acquire(&self) -> u64 {
        let value = self.load(Ordering::Relaxed);
        // Ordering: together with the load above, an Acquire load.
        fence(Ordering::Acquire);
        value
    }
}

#[cfg(not(blockcast_library))]
impl LoadAcquire for AtomicU32 {
    type Value = u32;

    #[inline(always)]
    fn load_acquire(&self) -> u32 {
        let value = self.load(Ordering::Relaxed);
        // Ordering: as above.
        fence(Ordering::Acquire);
        value
    }
}

/// Whether [`light_barrier`] can be relied on.
#[cfg(not(blockcast_library))]
pub(crate) fn asymmetric_barriers() -> bool {
    #[cfg(not(loom))]
    return crate::sys::barrier::supported();
    #[cfg(loom)]
    return modelled::available();
}

/// Marks code that a protocol cannot do without, and names the mutation that takes it away.
///
/// `essential!(NAME, CODE)` is `CODE`. `.ci/mutations` runs the models once for each name
/// (`BLOCKCAST_MUTATION`) with the weakest value in its place: a relaxed ordering, no fence, a check that
/// passes, no count. `essential!(NAME, CODE, WEAKER)` says what stands in its place. Each time a model must
/// fail. With `--cfg blockcast_mutations`, the real engine has them too: `.ci/kills` expects its tests to
/// fail.
#[cfg(not(any(loom, blockcast_mutations)))]
macro_rules! essential {
    ($name:ident, $code:expr) => {
        $code
    };
    ($name:ident, $code:expr, $weaker:expr) => {
        $code
    };
}
#[cfg(any(loom, blockcast_mutations))]
macro_rules! essential {
    ($name:ident, $code:expr) => {
        essential!($name, $code, $crate::primitive::Weakest::WEAKEST)
    };
    ($name:ident, $code:expr, $weaker:expr) => {
        if $crate::primitive::is_mutated(stringify!($name)) { $weaker } else { $code }
    };
}
pub(crate) use essential;

/// How `.ci/mutations` and `.ci/kills` weaken the engine.
#[cfg(any(loom, blockcast_mutations))]
mod mutations {
    use std::sync::OnceLock;

    use super::Ordering;

    /// Whether `.ci/mutations` runs the mutation `name`.
    pub(crate) fn is_mutated(name: &str) -> bool {
        static MUTATION: OnceLock<Option<String>> = OnceLock::new();
        MUTATION.get_or_init(|| std::env::var("BLOCKCAST_MUTATION").ok()).as_deref() == Some(name)
    }

    /// The replacement of a mutation for [`essential!`](super::essential) code.
    pub(crate) trait Weakest {
        const WEAKEST: Self;
    }

    /// A fence or a step is left out.
    impl Weakest for () {
        const WEAKEST: Self = ();
    }

    /// A store or load orders nothing else.
    impl Weakest for Ordering {
        const WEAKEST: Self = Self::Relaxed;
    }

    /// A barrier succeeds without having been made.
    impl Weakest for bool {
        const WEAKEST: Self = true;
    }

    /// A count is not seen.
    impl Weakest for u32 {
        const WEAKEST: Self = 0;
    }
}

/// Primitives that loom lacks.
#[cfg(loom)]
mod modelled {
    use std::cell::Cell;
    use std::task::Waker;

    use loom::sync::{Condvar, Mutex};
    use loom::thread::{self, ThreadId};

    use super::{AtomicU32, Ordering, fence};

    /// `futures::task::AtomicWaker` as its users see it: register and take are one step each.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

    impl AtomicWaker {
        pub(crate) fn register(&self, waker: &Waker) {
            *self.0.lock().expect("no panic inside") = Some(waker.clone());
        }

        pub(crate) fn take(&self) -> Option<Waker> {
            if std::thread::panicking() {
                // The model has failed, and is over for the thread that drops this.
                return None;
            }
            self.0.lock().expect("no panic inside").take()
        }
    }

    /// `membarrier(2)` for a single interrupted thread: the one that created the event counts, unless another
    /// one is named. A thread that asks for the barrier waits until that thread has passed a fence at one of
    /// its interrupt points, or is offline.
    struct Interrupt {
        asked: AtomicU32,
        /// Number of answered requests; all of them if the thread is offline.
        answered: Mutex<u32>,
        answer: Condvar,
    }

    loom::lazy_static! {
        static ref INTERRUPT: Interrupt = Interrupt {
            asked: AtomicU32::new(0),
            answered: Mutex::new(0),
            answer: Condvar::new(),
        };
    }

    thread_local! {
        // All threads of a model run on one thread of the system.
        static AVAILABLE: Cell<bool> = const { Cell::new(false) };
        static SERVED: Cell<u32> = const { Cell::new(0) };
        static NOTIFIER: Cell<Option<ThreadId>> = const { Cell::new(None) };
    }

    /// Models that run inside of `model` find a system with a process-wide barrier. Others find none.
    #[cfg(test)]
    pub(crate) fn with_process_wide_barrier(model: impl FnOnce()) {
        AVAILABLE.set(true);
        model();
        AVAILABLE.set(false);
    }

    pub(super) fn available() -> bool {
        AVAILABLE.get()
    }

    /// An event count was created, in this thread, before the other threads start.
    pub(crate) fn begin() {
        if AVAILABLE.get() {
            let _ = INTERRUPT.asked.load(Ordering::Relaxed);
            SERVED.set(0);
            NOTIFIER.set(Some(thread::current().id()));
        }
    }

    /// A point where that thread may be interrupted: between a store and a load that must not pass each
    /// other.
    pub(super) fn interrupt_point() {
        if AVAILABLE.get() && NOTIFIER.get() == Some(thread::current().id()) {
            let asked = INTERRUPT.asked.load(Ordering::Relaxed);
            if asked != SERVED.get() {
                SERVED.set(asked);
                answer(asked);
            }
        }
    }

    /// Whether the current thread is the interrupted one, whose steps on both sides happen in order.
    pub(crate) fn interrupts_itself() -> bool {
        NOTIFIER.get() == Some(thread::current().id())
    }

    /// Makes the current thread the interrupted one from here on.
    #[cfg(test)]
    pub(crate) fn interruptible() {
        NOTIFIER.set(Some(thread::current().id()));
    }

    /// The interrupted thread does not run any more.
    #[cfg(test)]
    pub(crate) fn offline() {
        answer(u32::MAX);
    }

    fn answer(asked: u32) {
        fence(Ordering::SeqCst);
        *INTERRUPT.answered.lock().expect("no panic inside") = asked;
        INTERRUPT.answer.notify_all();
    }

    pub(super) fn interrupt() -> bool {
        fence(Ordering::SeqCst);
        let asked = INTERRUPT.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut answered = INTERRUPT.answered.lock().expect("no panic inside");
        while *answered < asked {
            answered = INTERRUPT.answer.wait(answered).expect("no panic inside");
        }
        drop(answered);
        fence(Ordering::SeqCst);
        true
    }
}

/// A number that is unique in this process.
pub(crate) fn next_serial() -> u64 {
    // Not loom's, since it is not part of a protocol.
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Lets other threads run.
pub(crate) fn yield_now() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}
