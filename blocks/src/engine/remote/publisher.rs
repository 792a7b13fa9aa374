//! [`RemotePublisher`]: the publisher, from a subscribing process's point of view.

use super::Bell;
use crate::descriptor::{len_of, mark_unchecked, unit_of};
use crate::engine::segment::layout::Layout;
use crate::engine::segment::words::Header;
use crate::engine::wake::armed::Answered;
use crate::engine::wake::rung::{Heard, Rung};
use crate::primitive::essential;

/// How far the subscribers of this process trust a publisher of another one.
///
/// Either way, every descriptor is checked to name bytes of one block, so that nothing outside of the arena
/// is ever read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Messages that the publisher's process vouches for are read without validation, as within one process.
    Shared,
    /// Typed subscribers validate every message. Protects against a publisher that is broken or writes wrong
    /// bytes, but not against one that changes a message while it is read.
    #[default]
    Checked,
    /// Messages are only [copied](crate::RawSample::copy_to), never read in place. Protects even against a
    /// publisher that changes a message at any time.
    Walled,
}

/// State of a channel whose publisher is another process.
#[derive(Debug)]
pub(crate) struct RemotePublisher {
    layout: Layout,
    trust: Trust,
    /// Whether the publisher waits for reliable subscribers of this process.
    may_block: bool,
    bell: Bell,
    /// The publisher's waits for a block that this process has answered.
    answered: Answered,
    /// The value of the publisher's counter for which the bell of this process rang last.
    heard: Heard,
}

impl RemotePublisher {
    pub(crate) fn new(layout: Layout, trust: Trust, may_block: bool, bell: Bell) -> Self {
        Self { layout, trust, may_block, bell, answered: Answered::new(), heard: Heard::new() }
    }

    /// Whether the publisher waits for reliable subscribers of this process.
    pub(crate) fn may_block(&self) -> bool {
        self.may_block
    }

    /// Checks a descriptor word: the bytes that it names must be those of one block. Returns the word in the
    /// form that readers of this process may rely on.
    #[inline]
    pub(crate) fn believed(&self, word: u64) -> Option<u64> {
        let capacity = self.layout.capacity_at(unit_of(word))?;
        if len_of(word) > capacity as u64 {
            return None;
        }
        Some(match self.trust {
            Trust::Shared => word,
            Trust::Checked | Trust::Walled => mark_unchecked(word),
        })
    }

    /// Wakes the publisher if it waits for a block and was not woken since it began to wait. Called after a
    /// block is released, behind a light barrier. `rung` is the counter of this process.
    pub(crate) fn answer(&self, header: &Header, rung: &Rung) {
        let Some(wakers) = self.answered.new_waits(&header.remote.space_armed) else { return };
        rung.raise();
        if wakers.threads {
            essential!(wake_publisher, rung.wake_threads());
        }
        if wakers.bell {
            self.bell.ring();
        }
    }

    /// Rings the publisher's bell, regardless of what it waits for. `rung` is the counter of this process.
    pub(crate) fn ring(&self, rung: &Rung) {
        rung.raise();
        self.bell.ring();
    }

    /// Whether the publisher has woken subscribers of other processes since the last call.
    #[cfg_attr(loom, allow(dead_code, reason = "for the bell, which models answer by themselves"))]
    pub(crate) fn has_rung(&self, header: &Header) -> bool {
        self.heard.is_new(&header.remote.rung)
    }
}
