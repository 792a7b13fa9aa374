//! A lock that one thread takes at almost no cost: [`Biased`].
//!
//! Its owner marks itself busy, then checks whether another thread wants in. Another thread announces that it
//! wants in, then checks whether the owner is busy. Each side stores first and loads second, as with an event
//! count (`event_count.rs`), and the same asymmetric barrier keeps them apart: the owner only pays for a
//! compiler barrier, the others for a process-wide one.
//!
//! Code that runs inside may call back into the lock: the second entry is [refused](Refused::Inside).
//!
//! ```text
//!  owner      busy = 1 ─ light ─ wanted? ── no ──▶ in ──▶ busy = 0
//!                                  └─ yes: busy = 0, takes its turn with the others, busy = 1 ──▶ in
//!  another    takes its turn ─ wanted = 1 ─ heavy ─ waits while busy ──▶ in ──▶ wanted = 0
//! ```

use std::fmt;
#[cfg(not(loom))]
use std::time::Duration;
use std::time::Instant;

use crate::primitive::{
    AtomicU32, AtomicU64, Ordering, asymmetric_barriers, essential, fence, heavy_barrier, light_barrier,
    yield_now,
};

#[cfg(loom)]
use loom::{cell::UnsafeCell, sync::Mutex};
#[cfg(not(loom))]
use std::{
    cell::UnsafeCell,
    sync::{Mutex, MutexGuard, TryLockError},
};

/// Why a thread was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The thread is already inside, and code that it called there came back.
    #[error("called from within a call to the same component")]
    Inside,
    /// Another thread was inside the whole time.
    #[error("busy")]
    Busy,
}

/// A value that one thread at a time accesses: its owner almost for free, any other thread for some
/// microseconds.
pub struct Biased<T> {
    /// 1 while the owner is inside. Only the owner writes it.
    busy: AtomicU32,
    /// 1 while another thread is inside or waits for the owner to leave. Written by the thread that has the
    /// turn.
    wanted: AtomicU32,
    /// Held by the thread whose turn it is: one that is not the owner, or the owner when it must wait.
    turn: Mutex<()>,
    /// The thread whose turn it is, unless it is the owner. 0 if there is none.
    holder: AtomicU64,
    /// Whether both sides fence, since the system has no process-wide barrier.
    fenced: bool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, so that sending it suffices.
unsafe impl<T: Send> Sync for Biased<T> {}

impl<T> Biased<T> {
    /// Creates a lock that nobody holds.
    pub fn new(value: T) -> Self {
        Self {
            busy: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            turn: Mutex::new(()),
            holder: AtomicU64::new(0),
            fenced: !asymmetric_barriers(),
            value: UnsafeCell::new(value),
        }
    }

    /// Accesses the value as its owner. Two stores and two loads, unless another thread wants in.
    ///
    /// # Errors
    /// [`Refused::Inside`] if `look` comes back here.
    ///
    /// # Safety
    /// There is one owner at a time: one thread calls this, and another one only after the last call of the
    /// former has returned, which happens before (as after a join).
    #[inline]
    pub unsafe fn as_owner<R>(&self, look: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        // Ordering: Relaxed; the owner alone writes it.
        if self.busy.load(Ordering::Relaxed) != 0 {
            return Err(Refused::Inside);
        }
        // Ordering: Relaxed; the barrier orders it before the load, for a thread that passes the other half.
        self.busy.store(1, Ordering::Relaxed);
        if self.fenced {
            essential!(biased_fence, fence(Ordering::SeqCst));
        } else {
            light_barrier();
        }
        // Ordering: Acquire pairs with the Release with which the last one who was inside has left.
        if self.wanted.load(Ordering::Acquire) != 0 {
            return Ok(self.wait_for_turn(look));
        }
        let _inside = Inside(&self.busy);
        // SAFETY: nobody else is inside: we have seen any thread that came before our store, and one that
        // comes after it sees it and waits until `_inside` is dropped. The owner itself found that it was not
        // busy.
        Ok(unsafe { self.look(look) })
    }

    #[cold]
    #[inline(never)]
    fn wait_for_turn<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        // Ordering: Release, though nothing was done: the thread that waits for it continues.
        self.busy.store(0, Ordering::Release);
        #[cfg(not(loom))]
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // In a model a thread that sleeps does not answer a process-wide barrier, for which the system asks
        // running ones only.
        #[cfg(loom)]
        let _turn = loop {
            match self.turn.try_lock() {
                Ok(turn) => break turn,
                Err(_) => light_barrier(),
            }
            yield_now();
        };
        // Only for the owner, in case it comes back: the others wait for the turn.
        self.busy.store(1, Ordering::Relaxed);
        // Dropped before `_turn`.
        let _inside = Inside(&self.busy);
        // SAFETY: others are inside during their turn only, and this is ours. The owner was not inside, or it
        // would not have come here.
        unsafe { self.look(look) }
    }

    /// Accesses the value from a thread that is not its owner. Waits until the others have left, so `look`
    /// should be short on either side. A process-wide barrier: 0.14 µs alone, about 10 µs while other threads
    /// run.
    ///
    /// # Errors
    /// [`Refused::Inside`] if `look` comes back here. It must not come back as the owner, or through a thread
    /// that it waits for.
    pub fn from_elsewhere<R>(&self, look: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        self.enter(None, look)
    }

    /// Like [`from_elsewhere`](Self::from_elsewhere), for callers that must give up rather than wait for
    /// something that may wait for them.
    ///
    /// # Errors
    /// [`Refused::Inside`], and [`Refused::Busy`] if there was no way in during `patience`.
    #[cfg(not(loom))]
    pub fn within<R>(&self, patience: Duration, look: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        // A time beyond the clock's range is as good as never.
        self.enter(Instant::now().checked_add(patience), look)
    }

    fn enter<R>(&self, deadline: Option<Instant>, look: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        // Ordering: Relaxed; this thread sees its own writes.
        if cfg!(not(loom)) && self.holder.load(Ordering::Relaxed) == this_thread() {
            return Err(Refused::Inside);
        }
        #[cfg(not(loom))]
        let _turn = self.take_turn(deadline.is_some(), is_late)?;
        #[cfg(loom)]
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Ordering: Relaxed; the barrier orders it before the load.
        self.wanted.store(1, Ordering::Relaxed);
        // Dropped before `_turn`.
        let _inside = Inside(&self.wanted);
        if self.fenced {
            fence(Ordering::SeqCst);
        } else {
            // It fails if the system is short of memory. Then try again.
            while !essential!(biased_barrier, heavy_barrier()) {
                yield_now();
            }
        }
        // Ordering: Acquire pairs with the Release with which the owner leaves.
        while self.busy.load(Ordering::Acquire) != 0 {
            if is_late() {
                return Err(Refused::Busy);
            }
            yield_now();
        }
        let _held = Held::new(&self.holder);
        // SAFETY: it is our turn, so no other thread is inside but the owner at most; that was seen to have
        // left, and when it comes next it finds `wanted` set and waits for a turn. This thread is not inside,
        // as it was not the holder.
        Ok(unsafe { self.look(look) })
    }

    #[cfg(not(loom))]
    fn take_turn(&self, gives_up: bool, is_late: impl Fn() -> bool) -> Result<MutexGuard<'_, ()>, Refused> {
        if !gives_up {
            return Ok(self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
        loop {
            match self.turn.try_lock() {
                Ok(turn) => return Ok(turn),
                Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
                Err(TryLockError::WouldBlock) if is_late() => return Err(Refused::Busy),
                Err(TryLockError::WouldBlock) => yield_now(),
            }
        }
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

/// The time inside. The next thread sees its end.
struct Inside<'l>(&'l AtomicU32);

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        // Ordering: Release pairs with the Acquire of the next thread.
        self.0.store(0, Ordering::Release);
    }
}

/// The time during which a thread that is not the owner is inside.
struct Held<'l>(&'l AtomicU64);

impl<'l> Held<'l> {
    fn new(holder: &'l AtomicU64) -> Self {
        // Ordering: Relaxed; only this thread reads it.
        holder.store(this_thread(), Ordering::Relaxed);
        Self(holder)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A number that no other thread has, and that is not 0.
fn this_thread() -> u64 {
    // All threads of a model are one thread of the system, and none of them comes back.
    #[cfg(loom)]
    return u64::MAX;
    #[cfg(not(loom))]
    {
        thread_local!(static HERE: u8 = const { 0 });
        HERE.with(|here| std::ptr::from_ref(here).addr() as u64)
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

    /// Long enough for a thread to look once.
    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn one_at_a_time_is_inside_owner_and_others() {
        const ROUNDS: u64 = 2_000;
        let counted = Arc::new(Biased::new((0_u64, 0_u64)));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        let looked = counted.from_elsewhere(|(one, two)| {
                            *one += 1;
                            *two += 1;
                            assert_eq!(one, two);
                        });
                        looked.expect("it is not inside");
                    }
                })
            })
            .collect();
        for _ in 0..ROUNDS * 100 {
            // SAFETY: this thread alone is the owner.
            let looked = unsafe {
                counted.as_owner(|(one, two)| {
                    *one += 1;
                    *two += 1;
                    assert_eq!(one, two);
                })
            };
            looked.expect("it is not inside");
        }
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        // SAFETY: as above.
        assert_eq!(unsafe { counted.as_owner(|both| *both) }, Ok((ROUNDS * 102, ROUNDS * 102)));
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
        assert_eq!(lock.from_elsewhere(|value| *value), Ok(1));
        // SAFETY: as above.
        assert_eq!(unsafe { lock.as_owner(|value| *value) }, Ok(1));
    }

    #[test]
    fn a_second_entry_is_refused_and_lets_nobody_else_in() {
        let lock = Biased::new(0);
        let elsewhere = || std::thread::scope(|scope| scope.spawn(|| lock.within(MOMENT, |_| ())).join());
        let comes_back = |_: &mut i32| {
            // SAFETY: this thread alone is the owner.
            assert_eq!(unsafe { lock.as_owner(|_| ()) }, Err(Refused::Inside));
            assert_eq!(elsewhere().expect("no panic"), Err(Refused::Busy));
            // SAFETY: as above.
            assert_eq!(unsafe { lock.as_owner(|_| ()) }, Err(Refused::Inside));
        };
        // SAFETY: as above.
        assert_eq!(unsafe { lock.as_owner(comes_back) }, Ok(()));
        let inside = lock.from_elsewhere(|_| {
            assert_eq!(lock.from_elsewhere(|_| ()), Err(Refused::Inside));
            assert_eq!(lock.within(MOMENT, |_| ()), Err(Refused::Inside));
            assert_eq!(elsewhere().expect("no panic"), Err(Refused::Busy));
        });
        assert_eq!(inside, Ok(()));
        assert_eq!(elsewhere().expect("no panic"), Ok(()));
    }
}
