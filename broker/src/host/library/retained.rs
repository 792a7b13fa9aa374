//! Memory that a component may still use when its run is over: [`RetainedMemory`].

use blockcast_blocks::ArenaPin;

use super::blocks::HostMemory;
use crate::component::stats::ComponentStats;
use crate::hosting::deliveries::Unreleased;

/// Memory that a component may read or write until none of its code can run any more: thread-local
/// destructors, and threads that it has left behind, may run after `run` has returned.
///
/// The subscriptions and publishers are closed. This pins the blocks that the component had when `run`
/// returned, and no others.
#[derive(Default)]
pub(crate) struct RetainedMemory {
    /// The arenas in which its publishers have built messages, with the memory for direct publishing.
    pub(super) arenas: Vec<ArenaPin>,
    pub(super) messages: Vec<Unreleased>,
    pub(super) memory: Vec<HostMemory>,
}

impl RetainedMemory {
    /// Adds the deliveries that closed subscriptions have left to the counters.
    pub(super) fn count_in(&self, stats: &mut ComponentStats) {
        for messages in &self.messages {
            stats.attached = stats.attached.saturating_add(messages.attached());
            stats.held = stats.held.saturating_add(messages.held());
        }
    }
}
