//! [`Streams`]: what follows from the numbers of the messages that arrive.

use std::collections::{BTreeMap, VecDeque};

use crate::attachment::{Attachment, Origin};

/// A publisher of another broker.
type Publisher = (Origin, u64);

/// The publishers of one topic, on other brokers, and the message that comes next from each.
///
/// It remembers publishers whose messages have stopped coming, so that a gap is counted even after the
/// connection was gone for a while. If there are too many, it forgets the one from which it heard first.
#[derive(Clone, Debug)]
pub struct Streams {
    /// The sequence of the next message.
    next: BTreeMap<Publisher, u64>,
    /// In the order in which they were heard of.
    heard: VecDeque<Publisher>,
    capacity: usize,
}

/// What a message, or the end of a publisher, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the next one, or one behind a gap.
    Next {
        /// Messages of the publisher that should have arrived before it, and have not. 0 if it is the first
        /// one, whatever its position: the bridge joined the publisher then.
        missing: u64,
    },
    /// It, or a later one, has arrived before.
    Old,
}

impl Streams {
    /// Remembers this number of publishers, at least 1.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { next: BTreeMap::new(), heard: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Takes note of what has arrived.
    pub fn arrive(&mut self, attachment: &Attachment) -> Arrival {
        let Attachment { sequence, is_end, .. } = *attachment;
        let publisher = (attachment.origin, attachment.publisher);
        // An end has the number that a next message would have, and may come once more.
        let after = if is_end { sequence } else { sequence + 1 };
        match self.next.get_mut(&publisher) {
            Some(next) if sequence < *next => Arrival::Old,
            Some(next) => {
                let missing = sequence - *next;
                *next = after;
                Arrival::Next { missing }
            }
            None => {
                if self.heard.len() >= self.capacity
                    && let Some(first) = self.heard.pop_front()
                {
                    self.next.remove(&first);
                }
                self.heard.push_back(publisher);
                self.next.insert(publisher, after);
                Arrival::Next { missing: 0 }
            }
        }
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

    #[test]
    fn gaps_are_counted_for_each_publisher_and_repetitions_are_old() {
        let mut streams = Streams::new(8);
        assert_eq!(arrive(&mut streams, ONE, 10), Arrival::Next { missing: 0 });
        assert_eq!(arrive(&mut streams, TWO, 0), Arrival::Next { missing: 0 });
        assert_eq!(arrive(&mut streams, ONE, 11), Arrival::Next { missing: 0 });
        assert_eq!(arrive(&mut streams, TWO, 4), Arrival::Next { missing: 3 });
        assert_eq!(arrive(&mut streams, ONE, 11), Arrival::Old);
        assert_eq!(arrive(&mut streams, ONE, 3), Arrival::Old);
        assert_eq!(arrive(&mut streams, ONE, 12), Arrival::Next { missing: 0 });
        let other = Attachment::message(ONE, 6, 12);
        assert_eq!(streams.arrive(&other), Arrival::Next { missing: 0 }, "another publisher of the broker");
    }

    #[test]
    fn an_end_counts_what_is_missing_before_it() {
        let mut streams = Streams::new(8);
        assert_eq!(arrive(&mut streams, ONE, 0), Arrival::Next { missing: 0 });
        let end = Attachment::end(ONE, 5, 4);
        assert_eq!(streams.arrive(&end), Arrival::Next { missing: 3 });
        assert_eq!(streams.arrive(&end), Arrival::Next { missing: 0 });
        assert_eq!(arrive(&mut streams, ONE, 3), Arrival::Old);
    }

    #[test]
    fn only_the_given_number_of_publishers_is_remembered() {
        let mut streams = Streams::new(2);
        for publisher in 0..1000 {
            let _ = streams.arrive(&Attachment::message(ONE, publisher, 7));
        }
        assert_eq!((streams.next.len(), streams.heard.len()), (2, 2));
        assert_eq!(streams.arrive(&Attachment::message(ONE, 999, 9)), Arrival::Next { missing: 1 });
        assert_eq!(streams.arrive(&Attachment::message(ONE, 0, 3)), Arrival::Next { missing: 0 });
    }
}
