//! What a component may still reach when its run is over: [`LeftBehind`].

use blockcast_blocks::ArenaPin;

use super::blocks::HostMemory;
use crate::component::stats::ComponentStats;
use crate::hosting::deliveries::Unreleased;

/// Memory that a component may read or write until no code of it can run any more: its thread-local destructors come after
/// `run`, and so may threads that it has left behind.
///
/// It takes no part in anything: the subscriptions and publishers are closed. It pins the blocks that the component had when
/// `run` returned, and gets no more.
#[derive(Default)]
pub(crate) struct LeftBehind {
    /// Where its publishers have built messages, and where their lines lead.
    pub(super) arenas: Vec<ArenaPin>,
    pub(super) messages: Vec<Unreleased>,
    pub(super) memory: Vec<HostMemory>,
}

impl LeftBehind {
    /// Adds what is left of subscriptions to the counters.
    pub(super) fn count_in(&self, stats: &mut ComponentStats) {
        for messages in &self.messages {
            stats.attached = stats.attached.saturating_add(messages.attached());
            stats.held = stats.held.saturating_add(messages.held());
        }
    }
}
