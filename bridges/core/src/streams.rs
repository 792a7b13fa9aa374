//! [`Streams`]: what follows from the numbers of the messages that arrive.

use std::collections::{BTreeMap, VecDeque};

use crate::attachment::{Attachment, Origin};

/// A publisher of another broker.
type Publisher = (Origin, u64);

/// The publishers of one topic, on other brokers, and the message that comes next from each.
///
/// It remembers publishers whose messages have stopped coming, so that a gap is counted even after the
/// connection was gone for a while. If there are too many, it forgets one that was silent while as many new
/// ones came.
#[derive(Clone, Debug)]
pub struct Streams {
    publishers: BTreeMap<Publisher, Position>,
    /// Those to forget, in this order. One that was heard has another turn.
    turns: VecDeque<Publisher>,
    capacity: usize,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    /// The sequence of the next message.
    next: u64,
    /// Whether it was heard since it had its turn to be forgotten.
    is_heard: bool,
}

/// What a message, a batch, or the end of a publisher, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the next one, or one behind a gap.
    Next {
        /// Messages of the publisher that should have arrived before it, and have not. 0 if it is the first
        /// one, whatever its position: the bridge joined the publisher then.
        missing: u64,
        /// The first messages of the batch that have arrived before. Fewer than it has.
        repeated: u32,
    },
    /// It, or a later one, has arrived before: all of the batch.
    Old,
}

impl Streams {
    /// Remembers this number of publishers, at least 1.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { publishers: BTreeMap::new(), turns: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Takes note of what has arrived.
    pub fn arrive(&mut self, attachment: &Attachment) -> Arrival {
        self.arrive_after(attachment, None)
    }

    /// Takes note of what has arrived. If it is the first that was taken note of from its publisher, those
    /// from position `dropped` on have arrived before it, and were dropped: they are missing.
    pub fn arrive_after(&mut self, attachment: &Attachment, dropped: Option<u64>) -> Arrival {
        let Attachment { sequence, messages, .. } = *attachment;
        let publisher = (attachment.origin, attachment.publisher);
        // An end has the number that a next message would have, and may come once more.
        let after = sequence + u64::from(messages);
        let Some(position) = self.publishers.get_mut(&publisher) else {
            self.remember(publisher, after);
            let missing = sequence.saturating_sub(dropped.unwrap_or(sequence));
            return Arrival::Next { missing, repeated: 0 };
        };
        position.is_heard = true;
        let next = position.next;
        match sequence.checked_sub(next) {
            Some(missing) => {
                position.next = after;
                Arrival::Next { missing, repeated: 0 }
            }
            None if after <= next => Arrival::Old,
            None => {
                position.next = after;
                // Fewer than there are messages.
                let repeated = u32::try_from(next - sequence).unwrap_or(messages);
                Arrival::Next { missing: 0, repeated }
            }
        }
    }

    fn remember(&mut self, publisher: Publisher, next: u64) {
        while self.turns.len() >= self.capacity
            && let Some(first) = self.turns.pop_front()
        {
            match self.publishers.get_mut(&first) {
                Some(position) if position.is_heard => {
                    position.is_heard = false;
                    self.turns.push_back(first);
                }
                _ => {
                    self.publishers.remove(&first);
                }
            }
        }
        self.turns.push_back(publisher);
        self.publishers.insert(publisher, Position { next, is_heard: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Origin = Origin::new(1);
    const TWO: Origin = Origin::new(2);

    fn arrive(streams: &mut Streams, origin: Origin, sequence: u64) -> Arrival {
        streams.arrive(&Attachment::message(origin, 5, sequence))
    }

    /// The next message, or one behind a gap.
    const fn missing(missing: u64) -> Arrival {
        Arrival::Next { missing, repeated: 0 }
    }

    #[test]
    fn gaps_are_counted_for_each_publisher_and_repetitions_are_old() {
        let mut streams = Streams::new(8);
        assert_eq!(arrive(&mut streams, ONE, 10), missing(0));
        assert_eq!(arrive(&mut streams, TWO, 0), missing(0));
        assert_eq!(arrive(&mut streams, ONE, 11), missing(0));
        assert_eq!(arrive(&mut streams, TWO, 4), missing(3));
        assert_eq!(arrive(&mut streams, ONE, 11), Arrival::Old);
        assert_eq!(arrive(&mut streams, ONE, 3), Arrival::Old);
        assert_eq!(arrive(&mut streams, ONE, 12), missing(0));
        let other = Attachment::message(ONE, 6, 12);
        assert_eq!(streams.arrive(&other), missing(0), "another publisher of the broker");
    }

    #[test]
    fn an_end_counts_what_is_missing_before_it() {
        let mut streams = Streams::new(8);
        assert_eq!(arrive(&mut streams, ONE, 0), missing(0));
        let end = Attachment::end(ONE, 5, 4);
        assert_eq!(streams.arrive(&end), missing(3));
        assert_eq!(streams.arrive(&end), missing(0));
        assert_eq!(arrive(&mut streams, ONE, 3), Arrival::Old);
    }

    #[test]
    fn a_batch_counts_as_its_messages_and_may_be_repeated_in_part() {
        let mut streams = Streams::new(8);
        let mut batch =
            |first, messages| streams.arrive(&Attachment::message(ONE, 5, first).messages(messages));
        assert_eq!(batch(10, 4), missing(0));
        assert_eq!(batch(14, 1), missing(0));
        assert_eq!(batch(17, 3), missing(2));
        assert_eq!(batch(17, 3), Arrival::Old);
        assert_eq!(batch(19, 1), Arrival::Old);
        assert_eq!(batch(0, 20), Arrival::Old);
        assert_eq!(batch(18, 5), Arrival::Next { missing: 0, repeated: 2 });
        assert_eq!(batch(0, 24), Arrival::Next { missing: 0, repeated: 23 });
        assert_eq!(batch(24, 2), missing(0));
        assert_eq!(streams.arrive(&Attachment::end(ONE, 5, 30)), missing(4));
    }

    #[test]
    fn messages_that_were_dropped_before_the_first_one_are_missing() {
        let mut streams = Streams::new(8);
        let message = |sequence| Attachment::message(ONE, 5, sequence);
        assert_eq!(streams.arrive_after(&message(7), Some(4)), missing(3));
        // A gap says more than what was dropped.
        assert_eq!(streams.arrive_after(&message(10), Some(9)), missing(2));
        let other = Attachment::message(TWO, 5, 7);
        assert_eq!(streams.arrive_after(&other, Some(8)), missing(0), "it was a repetition");
    }

    #[test]
    fn only_the_given_number_of_publishers_is_remembered() {
        let mut streams = Streams::new(2);
        for publisher in 0..1000 {
            let _ = streams.arrive(&Attachment::message(ONE, publisher, 7));
        }
        assert_eq!((streams.publishers.len(), streams.turns.len()), (2, 2));
        assert_eq!(streams.arrive(&Attachment::message(ONE, 999, 9)), missing(1));
        assert_eq!(streams.arrive(&Attachment::message(ONE, 0, 3)), missing(0));
    }

    /// However many come and go.
    #[test]
    fn a_publisher_that_goes_on_is_not_forgotten_for_others() {
        let mut streams = Streams::new(4);
        assert_eq!(arrive(&mut streams, ONE, 0), missing(0));
        for round in 1..100 {
            let _ = streams.arrive(&Attachment::message(TWO, 2 * round, 0));
            let _ = streams.arrive(&Attachment::message(TWO, 2 * round + 1, 0));
            assert_eq!(arrive(&mut streams, ONE, 2 * round), missing(1));
            assert_eq!(arrive(&mut streams, ONE, 2 * round), Arrival::Old);
            assert!(streams.publishers.len() <= 4 && streams.turns.len() == streams.publishers.len());
        }
    }
}
