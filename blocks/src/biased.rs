//! A lock that one thread takes without cost: [`Biased`].
//!
//! Its owner marks itself busy, then looks whether somebody else wants in; whoever else wants in says so, then looks whether
//! the owner is busy. Each side stores first and loads second, as at a gate (`gate.rs`), and the same asymmetric barrier
//! keeps them apart: the owner pays for a compiler barrier only, the others for a process-wide one.
//!
//! ```text
//!  owner      busy = 1 ─ light ─ wanted? ── no ──▶ in ──▶ busy = 0
//!                                  └─ yes: busy = 0, takes its turn with the others ──▶ in
//!  another    takes its turn ─ wanted = 1 ─ heavy ─ waits while busy ──▶ in ──▶ wanted = 0
//! ```

use std::fmt;

use crate::primitive::{
    AtomicU32, Ordering, asymmetric_barriers, fence, heavy_barrier, light_barrier, yield_now,
};

#[cfg(loom)]
use loom::{cell::UnsafeCell, sync::Mutex};
#[cfg(not(loom))]
use std::{cell::UnsafeCell, sync::Mutex};

/// A value that one thread at a time looks at: its owner nearly for free, any other thread for some microseconds.
pub struct Biased<T> {
    /// The owner is inside. Written by the owner only.
    busy: AtomicU32,
    /// Another thread is inside, or waits for the owner to leave. Written by whoever has the turn.
    wanted: AtomicU32,
    /// Among those that are not the owner, and the owner when it finds that it must wait.
    turn: Mutex<()>,
    /// The system has no process-wide barrier: both sides fence.
    fenced: bool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, so that sending it suffices.
unsafe impl<T: Send> Sync for Biased<T> {}

impl<T> Biased<T> {
    /// Nobody is inside.
    pub fn new(value: T) -> Self {
        Self {
            busy: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            turn: Mutex::new(()),
            fenced: !asymmetric_barriers(),
            value: UnsafeCell::new(value),
        }
    }

    /// Looks at the value as its owner. Two stores and a load, unless another thread wants in.
    ///
    /// # Safety
    /// At any time there is one owner: calls do not overlap, those from another thread than the last one happen after
    /// it (as after a join), and `look` calls neither this nor [`from_elsewhere`](Self::from_elsewhere).
    #[inline]
    pub unsafe fn as_owner<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        // Ordering: Relaxed; the barrier orders it before the load, for whoever passes the other half.
        self.busy.store(1, Ordering::Relaxed);
        if self.fenced {
            #[cfg(not(blockcast_mutation = "biased_fence"))]
            fence(Ordering::SeqCst);
        } else {
            light_barrier();
        }
        // Ordering: Acquire pairs with the Release with which the last one who was inside has left.
        if self.wanted.load(Ordering::Acquire) != 0 {
            return self.wait_for_turn(look);
        }
        let _inside = Inside(&self.busy);
        // SAFETY: nobody else is inside: whoever wanted in before our store has been seen, and whoever does
        // after it sees it and waits until `_inside` is dropped. The owner itself does not come twice (the caller's promise).
        unsafe { self.look(look) }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_turn<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        // Ordering: Release, though nothing was done: who waits for it goes on.
        self.busy.store(0, Ordering::Release);
        #[cfg(not(loom))]
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // In a model a thread that sleeps does not answer a process-wide barrier, for which the system asks running ones only.
        #[cfg(loom)]
        let _turn = loop {
            match self.turn.try_lock() {
                Ok(turn) => break turn,
                Err(_) => light_barrier(),
            }
            yield_now();
        };
        // SAFETY: others are inside during their turn only, and this is ours.
        unsafe { self.look(look) }
    }

    /// Looks at the value as another thread than its owner. Waits until the owner has left: `look` of either side should be
    /// short. A process-wide barrier: 0.14 µs alone, about 10 µs while other threads run.
    ///
    /// `look` must not call this or [`as_owner`](Self::as_owner): it would wait for itself.
    pub fn from_elsewhere<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Ordering: Relaxed; the barrier orders it before the load.
        self.wanted.store(1, Ordering::Relaxed);
        // Dropped before `_turn`.
        let _inside = Inside(&self.wanted);
        if self.fenced {
            fence(Ordering::SeqCst);
        } else {
            // It fails where the system is short of memory, and then it is tried again.
            while !(cfg!(blockcast_mutation = "biased_barrier") || heavy_barrier()) {
                yield_now();
            }
        }
        // Ordering: Acquire pairs with the Release with which the owner leaves.
        while self.busy.load(Ordering::Acquire) != 0 {
            yield_now();
        }
        // SAFETY: it is our turn, so no other thread is inside but the owner at most; that was seen to have left, and when
        // it comes next it finds `wanted` set and waits for a turn.
        unsafe { self.look(look) }
    }

    /// # Safety
    /// Nobody else is inside.
    #[inline]
    unsafe fn look<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(not(loom))]
        // SAFETY: nobody else has a reference (the caller's promise).
        return look(unsafe { &mut *self.value.get() });
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        return self.value.with_mut(|value| look(unsafe { &mut *value }));
    }
}

/// The time inside. Its end is seen by who comes next.
struct Inside<'l>(&'l AtomicU32);

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        // Ordering: Release pairs with the Acquire of whoever comes next.
        self.0.store(0, Ordering::Release);
    }
}

impl<T> fmt::Debug for Biased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Biased").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_at_a_time_is_inside_owner_and_others() {
        const ROUNDS: u64 = 2_000;
        let counted = Arc::new(Biased::new((0_u64, 0_u64)));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        counted.from_elsewhere(|(one, two)| {
                            *one += 1;
                            *two += 1;
                            assert_eq!(one, two);
                        });
                    }
                })
            })
            .collect();
        for _ in 0..ROUNDS * 100 {
            // SAFETY: this thread alone is the owner.
            unsafe {
                counted.as_owner(|(one, two)| {
                    *one += 1;
                    *two += 1;
                    assert_eq!(one, two);
                });
            }
        }
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        // SAFETY: as above.
        assert_eq!(unsafe { counted.as_owner(|both| *both) }, (ROUNDS * 102, ROUNDS * 102));
    }

    #[test]
    fn a_panic_inside_lets_others_in() {
        let lock = Biased::new(1);
        let panics = |_: &mut i32| panic!("as wanted");
        let panicked = std::panic::AssertUnwindSafe(|| lock.from_elsewhere(panics));
        std::panic::catch_unwind(panicked).expect_err("it panics");
        // SAFETY: this thread alone is the owner.
        let panicked = std::panic::AssertUnwindSafe(|| unsafe { lock.as_owner(panics) });
        std::panic::catch_unwind(panicked).expect_err("it panics");
        assert_eq!(lock.from_elsewhere(|value| *value), 1);
        // SAFETY: as above.
        assert_eq!(unsafe { lock.as_owner(|value| *value) }, 1);
    }
}
