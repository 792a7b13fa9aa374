//! The publisher, as a subscribing process knows it: [`RemotePublisher`].

use super::Bell;
use crate::descriptor::{len_of, mark_unchecked, unit_of};
use crate::engine::segment::layout::Layout;
use crate::engine::segment::words::Header;
use crate::primitive::{AtomicU32, Ordering};

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
    /// The value of `space_armed` for which the bell was rung last.
    rung: AtomicU32,
}

impl RemotePublisher {
    pub(crate) fn new(layout: Layout, trust: Trust, may_block: bool, bell: Bell) -> Self {
        Self { layout, trust, may_block, bell, rung: AtomicU32::new(0) }
    }

    /// Whether the publisher waits for reliable subscribers of this process.
    pub(crate) fn may_block(&self) -> bool {
        self.may_block
    }

    /// Checks a descriptor word: the bytes that it names must be those of one block. Returns the word as
    /// readers of this process may believe it.
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

    /// Rings the publisher's bell if it waits for a block and was not rung since it began to wait. Called
    /// after the release of a block, behind a light barrier.
    pub(crate) fn ring_if_armed(&self, header: &Header) {
        // Ordering: Relaxed; if this misses that the publisher waits, its barrier comes later, and it sees
        // the release when it checks once more.
        let armed = header.space_armed.load(Ordering::Relaxed);
        // Ordering: Relaxed; two threads that ring for the same wait do no harm.
        if armed % 2 == 1 && self.rung.swap(armed, Ordering::Relaxed) != armed {
            self.bell.ring();
        }
    }

    /// Rings the publisher's bell, whatever it waits for.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }
}
