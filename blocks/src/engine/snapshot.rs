//! A list that is read without a lock: [`Snapshot`].

use std::fmt;

#[cfg(loom)]
pub(crate) use modelled::Snapshot;
#[cfg(not(loom))]
pub(crate) use real::Snapshot;

#[cfg(not(loom))]
mod real {
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Mutex, PoisonError};

    use crossbeam_epoch::{Atomic, Owned};

    /// Steps of the epoch after which garbage is destroyed, and one for good measure.
    const STEPS: usize = 4;

    /// A list that is rarely changed. Reading it takes no lock, only a `crossbeam_epoch` guard. A change
    /// replaces the list as a whole, and the old one is freed once nobody reads it any more.
    pub(crate) struct Snapshot<T> {
        list: Atomic<Vec<Arc<T>>>,
        changing: Mutex<()>,
    }

    impl<T> Snapshot<T> {
        pub(crate) fn new() -> Self {
            Self { list: Atomic::new(Vec::new()), changing: Mutex::new(()) }
        }

        /// Calls `read` with the current list. Never blocks. The guard does not outlive the call.
        pub(crate) fn read<R>(&self, read: impl FnOnce(&[Arc<T>]) -> R) -> R {
            let guard = crossbeam_epoch::pin();
            // SAFETY: the pointer is never null and what it points to is freed through `defer_destroy` only,
            // after every guard that was pinned while it could be loaded.
            read(unsafe { self.list.load(Ordering::Acquire, &guard).deref() })
        }

        /// Replaces the list by a changed copy. Nobody else changes it meanwhile.
        pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Vec<Arc<T>>) -> R) -> R {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let guard = crossbeam_epoch::pin();
            let old = self.list.load(Ordering::Acquire, &guard);
            // SAFETY: as in `read`; the lock keeps other replacements out.
            let mut list = unsafe { old.deref() }.clone();
            let changed = change(&mut list);
            self.list.store(Owned::new(list), Ordering::Release);
            // SAFETY: `old` was unlinked by the store above under the lock, so no later guard can load it and
            // nobody else destroys it.
            unsafe { guard.defer_destroy(old) };
            changed
        }

        /// Frees the lists that this thread has replaced, unless another thread reads a list right now.
        pub(crate) fn collect(&self) {
            (0..STEPS).for_each(|_| crossbeam_epoch::pin().flush());
        }
    }

    impl<T> Drop for Snapshot<T> {
        fn drop(&mut self) {
            let list = std::mem::replace(&mut self.list, Atomic::null());
            // SAFETY: `&mut self`: nobody else can load the pointer any more, and it was not handed to
            // `defer_destroy`.
            drop(unsafe { list.try_into_owned() });
        }
    }
}

/// For models, whose objects must not outlive one run, as garbage of `crossbeam_epoch` would.
#[cfg(loom)]
mod modelled {
    use std::sync::{Arc, Mutex};

    pub(crate) struct Snapshot<T>(Mutex<Arc<Vec<Arc<T>>>>);

    impl<T> Snapshot<T> {
        pub(crate) fn new() -> Self {
            Self(Mutex::default())
        }

        fn list(&self) -> Arc<Vec<Arc<T>>> {
            Arc::clone(&self.0.lock().expect("no panic inside"))
        }

        pub(crate) fn read<R>(&self, read: impl FnOnce(&[Arc<T>]) -> R) -> R {
            read(&self.list())
        }

        /// In models, one thread changes a list at a time: other threads may run while `change` does.
        pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Vec<Arc<T>>) -> R) -> R {
            let mut list = Vec::clone(&self.list());
            let changed = change(&mut list);
            let old = std::mem::replace(&mut *self.0.lock().expect("no panic inside"), Arc::new(list));
            drop(old);
            changed
        }

        /// Every list is freed when the last thread has read it.
        pub(crate) fn collect(&self) {}
    }
}

impl<T> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}
