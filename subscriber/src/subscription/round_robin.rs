//! Receiving from several publishers in turns.

use std::collections::VecDeque;

use blockcast_blocks::{RawSample, Reader, ReceiveError};

use super::mailbox::Arrivals;

/// The readers of a subscription that has several publishers.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// The readers that take turns.
    pub readers: Vec<Reader>,
    /// The index of the reader that had the last turn.
    current: usize,
    /// Readers of publishers that joined after one of `readers` had ended, in the order in which they joined.
    /// Empty if none of `readers` has ended.
    pub waiting: VecDeque<Reader>,
    /// The number of messages lost by readers that have been removed.
    pub ended_losses: u64,
}

impl RoundRobin {
    /// Adds the reader of a publisher that has joined.
    pub(super) fn add(&mut self, reader: Reader) {
        self.remove_ended();
        self.waiting.push_back(reader);
        self.admit_waiting();
    }

    /// Removes the readers whose publishers have ended and whose messages were all received.
    fn remove_ended(&mut self) {
        let mut losses = 0_u64;
        self.readers.retain(|reader| {
            let has_ended = reader.has_ended();
            losses = losses.saturating_add(if has_ended { reader.lost() } else { 0 });
            !has_ended
        });
        self.add_losses(losses);
    }

    /// Counts the losses of a reader that is removed. Counters of other processes may be anything.
    pub(super) fn add_losses(&mut self, lost: u64) {
        self.ended_losses = self.ended_losses.saturating_add(lost);
    }

    /// Lets waiting readers take turns if all messages before theirs were received. Returns whether any were
    /// admitted.
    ///
    /// A publisher that ended before another one joined was closed when the other one's reader was added, so
    /// it suffices to check for closed publishers. Publishers that were closed a little later come first too,
    /// which does no harm: their remaining messages are finite.
    fn admit_waiting(&mut self) -> bool {
        let before = self.waiting.len();
        while !self.readers.iter().any(|reader| reader.channel().is_closed())
            && let Some(next) = self.waiting.pop_front()
        {
            self.readers.push(next);
        }
        self.waiting.len() < before
    }

    /// Takes the reader out if there is only one.
    pub(super) fn take_sole(&mut self) -> Option<Reader> {
        if self.readers.len() == 1 && self.waiting.is_empty() { self.readers.pop() } else { None }
    }

    /// Receives the next message of the reader whose turn it is as an owned sample. Separate, so that the
    /// code for one publisher stays small.
    #[inline(never)]
    pub(super) fn receive_owned(&mut self, arrivals: &mut Arrivals) -> Result<RawSample, ReceiveError> {
        self.next_turn(arrivals)?.receive_owned_here()
    }

    /// Gives the turn to the next reader that has a message or a loss to report.
    #[inline(never)]
    pub(super) fn next_turn(&mut self, arrivals: &mut Arrivals) -> Result<&mut Reader, ReceiveError> {
        let mut tried = 0;
        while tried < self.readers.len() {
            self.current = (self.current + 1) % self.readers.len();
            let reader = &mut self.readers[self.current];
            if reader.has_message() {
                return Ok(&mut self.readers[self.current]);
            }
            if reader.has_ended() {
                // The last reader moves to this index, and is tried next.
                let ended = self.readers.swap_remove(self.current);
                self.add_losses(ended.lost());
                self.current = self.current.wrapping_sub(1).min(self.readers.len());
                if self.admit_waiting() {
                    tried = 0;
                }
            } else {
                reader.release_dropped();
                tried += 1;
            }
        }
        Err(if self.readers.is_empty() { arrivals.end(ReceiveError::Ended) } else { ReceiveError::Empty })
    }

    /// Takes the last turn back, because its message was not received.
    pub(super) fn undo_turn(&mut self) {
        self.current = self.current.checked_sub(1).unwrap_or(self.readers.len() - 1);
    }
}
