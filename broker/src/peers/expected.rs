//! [`ExpectedRestarts`]: what other processes learn of restarts of this process's components.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::peers::link::{Link, LinkSlot};

/// The topics to which components of this process may publish again after a restart, with the number of these
/// components. Other processes know them by name, even while this process has no such topic.
#[derive(Debug, Default)]
pub(crate) struct ExpectedRestarts(Mutex<BTreeMap<Arc<str>, usize>>);

impl ExpectedRestarts {
    /// Tells a new link's host.
    pub(crate) fn tell(&self, link: &Link) {
        self.lock().keys().for_each(|topic| link.expect(topic, true));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
        // Only changed by single calls, so it is consistent after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A component of this process may publish on a topic again after a restart. Dropping this says that it will
/// not.
pub(crate) struct ExpectedRestart {
    topic: Arc<str>,
    slot: Arc<LinkSlot>,
}

impl ExpectedRestart {
    /// Tells the host of the broker's link, if there is one, as soon as there is.
    pub(crate) fn new(topic: &Arc<str>, slot: &Arc<LinkSlot>) -> Self {
        let mut counts = slot.restarts.lock();
        let count = counts.entry(Arc::clone(topic)).or_default();
        *count += 1;
        if *count == 1 {
            // With the lock, so that the host learns of changes in order.
            slot.get().inspect(|link| link.expect(topic, true));
        }
        Self { topic: Arc::clone(topic), slot: Arc::clone(slot) }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }
}

impl Drop for ExpectedRestart {
    fn drop(&mut self) {
        let link = self.slot.get();
        if link.as_ref().is_some_and(|link| !link.is_own_process()) {
            // A forked child. Threads of the parent may have held the lock when it forked.
            return;
        }
        let mut counts = self.slot.restarts.lock();
        let Some(count) = counts.get_mut(&self.topic) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.topic);
            link.inspect(|link| link.expect(&self.topic, false));
        }
    }
}

impl fmt::Debug for ExpectedRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExpectedRestart").field(&self.topic).finish()
    }
}
