//! Atomics and fences: the real ones, or loom's while a model is being checked.
//!
//! Nothing else in this crate names `std::sync::atomic`, so that every protocol can be explored by loom
//! (`RUSTFLAGS="--cfg loom"`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use futures::task::AtomicWaker;
#[cfg(loom)]
pub(crate) use loom::future::AtomicWaker;

/// One half of an asymmetric barrier: costs nothing, and orders earlier stores before later loads as
/// soon as the other side executes [`heavy_barrier`].
///
/// loom cannot model `membarrier`, so there both halves are full fences: the model then covers what the
/// barriers protect, while the pairing itself rests on the kernel's contract (membarrier(2)).
#[inline(always)]
pub(crate) fn light_barrier() {
    #[cfg(not(loom))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// The other half: orders this thread's earlier stores before its later loads, and makes every running
/// thread of the process pass a full fence. 0.14 µs alone, about 10 µs while a second thread runs.
pub(crate) fn heavy_barrier() {
    #[cfg(not(loom))]
    crate::sys::barrier::process_wide();
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Whether [`light_barrier`] may be relied on here.
pub(crate) fn asymmetric_barriers() -> bool {
    #[cfg(not(loom))]
    return crate::sys::barrier::supported();
    #[cfg(loom)]
    return false;
}

/// Lets other threads run.
pub(crate) fn yield_now() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}
