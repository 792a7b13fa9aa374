//! [`Leash`]: how other threads reach the thread that runs a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::peers::event::Event;

/// The requests to a run, and the event that is set for them.
#[derive(Debug)]
pub(super) struct Leash {
    asked: Mutex<Asked>,
    event: Arc<Event>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Ask the process to finish.
    pub(super) finish: bool,
    /// Cancel the component.
    pub(super) cancel: bool,
    /// Kill the process, because nobody waits for it any more.
    pub(super) kill: bool,
    /// Ask for the counters.
    pub(super) count: bool,
}

impl Leash {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { asked: Mutex::default(), event: Arc::new(Event::new()?) })
    }

    pub(super) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    pub(super) fn ask(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.asked());
        self.event.set();
    }

    /// Takes the requests that have come since the last call.
    pub(super) fn take(&self) -> Asked {
        self.event.reset();
        std::mem::take(&mut self.asked())
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        // Only assigned, so it is consistent after a panic.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
