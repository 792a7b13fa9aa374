//! [`Packer`]: copies of small messages, which may share samples of zenoh.

use blockcast_bridge_core::Packing;
use zenoh::bytes::ZBytes;

/// Messages of up to this number of bytes are copied: that is cheaper than keeping their blocks.
pub(crate) const SMALL: usize = 1024;

/// What becomes one sample: a message, or several that follow each other without a gap.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) payload: ZBytes,
    pub(crate) messages: u32,
    /// The sequence and the time of the first one.
    pub(crate) first: u64,
    pub(crate) time: u64,
    /// Bytes of the messages.
    pub(crate) bytes: usize,
}

impl Parcel {
    /// A copy of one message.
    pub(crate) fn single(message: &[u8], sequence: u64, time: u64) -> Self {
        let (payload, bytes) = (ZBytes::from(message), message.len());
        Self { payload, messages: 1, first: sequence, time, bytes }
    }
}

/// Copies messages of one publisher into parcels.
#[derive(Debug)]
pub(crate) struct Packer {
    /// Bytes of a payload that several messages share, at most.
    limit: usize,
    packing: Packing,
    first: u64,
    time: u64,
    parcels: Vec<Parcel>,
}

impl Packer {
    /// `limit`: bytes of a payload that several messages share, at most. 0 if none do.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, packing: Packing::default(), first: 0, time: 0, parcels: Vec::new() }
    }

    /// Whether messages may share a payload.
    pub(crate) fn is_packing(&self) -> bool {
        self.limit > 0
    }

    /// Adds the publisher's next message.
    pub(crate) fn add(&mut self, message: &[u8], sequence: u64, time: u64) {
        let cost = Packing::cost(message.len());
        let next = self.first + u64::from(self.packing.messages());
        if sequence != next || self.packing.len() + cost > self.limit {
            self.close();
        }
        if message.len() > SMALL || cost > self.limit || !self.packing.push(message) {
            self.close();
            self.parcels.push(Parcel::single(message, sequence, time));
        } else if self.packing.messages() == 1 {
            (self.first, self.time) = (sequence, time);
        }
    }

    /// Takes everything that was added.
    pub(crate) fn parcels(&mut self) -> impl Iterator<Item = Parcel> {
        self.close();
        self.parcels.drain(..)
    }

    /// Nothing is added to what is being packed.
    fn close(&mut self) {
        if self.packing.is_empty() {
            return;
        }
        let messages = self.packing.messages();
        let bytes = self.packing.len() - Packing::cost(0) * messages as usize;
        let (payload, start) = self.packing.take();
        let payload = match start {
            0 => ZBytes::from(payload),
            _ => ZBytes::from(bytes::Bytes::from(payload).slice(start..)),
        };
        self.parcels.push(Parcel { payload, messages, first: self.first, time: self.time, bytes });
    }
}

#[cfg(test)]
mod tests {
    use blockcast_bridge_core::Unpacking;

    use super::*;

    /// The messages of each parcel: their sequences, of which each message consists, and its length.
    fn pack(limit: usize, messages: &[(u64, usize)]) -> Vec<Vec<(u64, usize)>> {
        let mut packer = Packer::new(limit);
        for &(sequence, len) in messages {
            packer.add(&vec![sequence as u8; len], sequence, 1000 + sequence);
        }
        let read = |parcel: Parcel| {
            let payload = parcel.payload.to_bytes();
            let messages: Vec<_> = match parcel.messages {
                1 => vec![&payload[..]],
                several => {
                    assert!(payload.len() <= limit);
                    Unpacking::new(&payload, several).expect("a batch").iter(&payload).collect()
                }
            };
            assert_eq!((parcel.messages as usize, parcel.time), (messages.len(), 1000 + parcel.first));
            assert_eq!(parcel.bytes, messages.iter().map(|message| message.len()).sum::<usize>());
            let read = |(sequence, message): (u64, &[u8])| {
                assert!(message.iter().all(|&byte| byte == sequence as u8));
                (sequence, message.len())
            };
            (parcel.first..).zip(messages).map(read).collect()
        };
        let parcels = packer.parcels().map(read).collect();
        assert_eq!(packer.parcels().count(), 0);
        parcels
    }

    #[test]
    fn messages_that_follow_each_other_share_a_payload_up_to_the_limit() {
        let messages = [(3, 10), (4, 0), (5, 10), (6, 11), (7, 1)];
        let [a, b, c, d, e] = messages;
        assert_eq!(pack(1000, &messages), [vec![a, b, c, d, e]]);
        // 4 more for each.
        assert_eq!(pack(32, &messages), [vec![a, b, c], vec![d, e]]);
        assert_eq!(pack(31, &messages), [vec![a, b], vec![c, d], vec![e]]);
        assert_eq!(pack(13, &messages), [vec![a], vec![b], vec![c], vec![d], vec![e]]);
        assert_eq!(pack(0, &messages), [vec![a], vec![b], vec![c], vec![d], vec![e]]);
    }

    #[test]
    fn messages_with_a_gap_between_them_do_not_share_a_payload() {
        assert_eq!(
            pack(1000, &[(3, 1), (4, 1), (6, 1), (7, 1)]),
            [vec![(3, 1), (4, 1)], vec![(6, 1), (7, 1)]]
        );
        // The first messages of a publisher, too.
        assert_eq!(pack(1000, &[(0, 1), (2, 1)]), [vec![(0, 1)], vec![(2, 1)]]);
    }

    #[test]
    fn large_messages_are_alone() {
        let messages = [(0, 1), (1, SMALL), (2, SMALL + 1), (3, 1), (4, 1)];
        let [a, b, c, d, e] = messages;
        assert_eq!(pack(1 << 20, &messages), [vec![a, b], vec![c], vec![d, e]]);
    }
}
