//! How a [`Reader`] releases the messages that it has received, and holds some of them.

use super::{NOTHING_TAKEN, Reader, State};
use crate::descriptor::Packed;
use crate::engine::sample::raw::RawSample;
use crate::units::Sequence;

impl Reader {
    /// Keeps a message that was [received by descriptor](Self::receive_descriptor) and not released yet, as a
    /// counted hold, for as long as the returned sample lives. Two atomic additions. Messages may be held in
    /// any order. `None` if the message is not or no longer attached, or if the publisher has overtaken this
    /// reader meanwhile.
    #[must_use]
    pub fn hold(&mut self, sequence: Sequence) -> Option<RawSample> {
        let sequence = sequence.get();
        if self.channel.is_inherited() || !(self.floor..self.consumer.next()).contains(&sequence) {
            return None;
        }
        let (word, time) = self.consumer.look_back(sequence)?;
        Some(self.window.count(&self.consumer, Packed { sequence, word, time }))
    }

    /// Releases every message below `sequence`, except samples. One store.
    #[inline]
    pub fn release_before(&mut self, sequence: Sequence) {
        let sequence = sequence.get();
        if self.floor < sequence {
            self.floor = if sequence < self.consumer.next() { sequence } else { NOTHING_TAKEN };
        }
        self.settle();
    }

    /// Releases samples that were dropped since the last receive, and the messages between those that are
    /// kept. A receive that finds nothing does this too.
    #[inline]
    pub fn release_dropped(&mut self) {
        if self.is_pinned() {
            self.window.count_before_gap(&self.consumer);
            self.settle();
        }
    }

    /// Whether samples or descriptors may keep the interval from following what was received.
    #[inline(always)]
    pub(super) fn is_pinned(&self) -> bool {
        self.floor != NOTHING_TAKEN || self.window.is_used()
    }

    /// Releases the messages that were just received by reference.
    #[inline]
    pub(super) fn release_received(&mut self) {
        if self.is_pinned() {
            self.settle();
        } else if self.consumer.release(self.consumer.next()) {
            self.wake_publisher();
        }
    }

    /// Releases all messages that no sample and no descriptor needs.
    #[inline(never)]
    pub(super) fn settle(&mut self) {
        let oldest = self.window.oldest(&self.consumer).unwrap_or(NOTHING_TAKEN).min(self.floor);
        let plain = oldest == NOTHING_TAKEN && self.consumer.reads_unchecked() && !self.window.is_limited();
        self.state = if plain { State::Plain } else { State::Guarded };
        if self.consumer.release(oldest.min(self.consumer.next())) {
            self.wake_publisher();
        }
    }
}
