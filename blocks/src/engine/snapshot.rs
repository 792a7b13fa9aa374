//! Lists that are read while others change them: [`Snapshot`], without a lock, and [`PromptSnapshot`].

use std::fmt;

pub(crate) use prompt::PromptSnapshot;
#[cfg(loom)]
pub(crate) use prompt::PromptSnapshot as Snapshot;
#[cfg(not(loom))]
pub(crate) use real::Snapshot;

#[cfg(not(loom))]
mod real {
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Mutex, PoisonError};

    use crossbeam_epoch::{Atomic, Owned};

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

/// A list whose entries own what must be returned to the system as soon as it is out of use: a replaced list
/// is freed with its last reader, not some time later. Reading takes a lock, for an instant. In models, all
/// lists are of this kind: their objects must not outlive one run, as garbage of `crossbeam_epoch` would.
mod prompt {
    use std::sync::{Arc, Mutex, PoisonError};

    pub(crate) struct PromptSnapshot<T> {
        list: Mutex<Arc<Vec<Arc<T>>>>,
        /// Models have no use for it: there, one thread changes a list at a time, and other threads may run
        /// while it does.
        #[cfg(not(loom))]
        changing: Mutex<()>,
    }

    impl<T> PromptSnapshot<T> {
        pub(crate) fn new() -> Self {
            Self {
                list: Mutex::default(),
                #[cfg(not(loom))]
                changing: Mutex::new(()),
            }
        }

        fn list(&self) -> Arc<Vec<Arc<T>>> {
            Arc::clone(&self.list.lock().unwrap_or_else(PoisonError::into_inner))
        }

        /// Calls `read` with the current list, while nothing is locked.
        pub(crate) fn read<R>(&self, read: impl FnOnce(&[Arc<T>]) -> R) -> R {
            read(&self.list())
        }

        /// Replaces the list by a changed copy. Nobody else changes it meanwhile.
        pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Vec<Arc<T>>) -> R) -> R {
            #[cfg(not(loom))]
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut list = Vec::clone(&self.list());
            let changed = change(&mut list);
            let mut current = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            let old = std::mem::replace(&mut *current, Arc::new(list));
            drop(current);
            // What it owns is returned while nothing is locked.
            drop(old);
            changed
        }
    }
}

#[cfg(not(loom))]
impl<T> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for PromptSnapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromptSnapshot").finish_non_exhaustive()
    }
}
