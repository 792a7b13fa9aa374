//! [`Packing`] and [`Unpacking`]: several messages in one payload.
//!
//! For each message, its length as a little-endian number of 4 bytes, and then its bytes, with nothing
//! between messages. Their number is in the [attachment](crate::Attachment). A single message is its own
//! payload, without a length.

/// Bytes of a length.
const PREFIX: usize = 4;

/// Collects messages for a payload.
#[derive(Clone, Debug, Default)]
pub struct Packing {
    bytes: Vec<u8>,
    messages: u32,
}

impl Packing {
    /// Bytes that one message of this length adds to a batch.
    #[must_use]
    pub const fn cost(len: usize) -> usize {
        len.saturating_add(PREFIX)
    }

    /// The number of messages in it.
    #[must_use]
    pub const fn messages(&self) -> u32 {
        self.messages
    }

    /// Bytes of all messages, with their lengths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no message.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Adds a message, and returns `true`. Returns `false` if its length, or the number of messages, is more
    /// than 32 bits can tell.
    #[must_use]
    pub fn push(&mut self, message: &[u8]) -> bool {
        let (Ok(len), Some(messages)) = (u32::try_from(message.len()), self.messages.checked_add(1)) else {
            return false;
        };
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(message);
        self.messages = messages;
        true
    }

    /// Takes all messages: bytes, of which the payload starts at the position that comes with them. It is not
    /// 0 if there is one message only. Keeps room for as many bytes.
    #[must_use]
    pub fn take(&mut self) -> (Vec<u8>, usize) {
        let start = if self.messages == 1 { PREFIX } else { 0 };
        let room = Vec::with_capacity(self.bytes.len());
        self.messages = 0;
        (std::mem::replace(&mut self.bytes, room), start)
    }
}

/// The messages of a batch that were not taken out yet. The payload is given with each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacking {
    /// Where the length of the next message is.
    at: usize,
    messages: u32,
}

/// A payload is not a batch of the number of messages that its attachment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// It ends in the middle of a message, or before it.
    #[error("the batch ends within message {0} of it")]
    Cut(u32),
    /// Something follows the last message.
    #[error("{0} bytes follow the last message of the batch")]
    Rest(usize),
}

impl Unpacking {
    /// Reads a payload of this number of messages.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn new(payload: &[u8], messages: u32) -> Result<Self, BatchError> {
        let mut rest = Self { at: 0, messages };
        while !rest.is_empty() {
            rest.next(payload).ok_or(BatchError::Cut(messages - rest.messages))?;
        }
        match payload.len() - rest.at {
            0 => Ok(Self { at: 0, messages }),
            left => Err(BatchError::Rest(left)),
        }
    }

    /// The number of messages that were not taken out.
    #[must_use]
    pub const fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether all messages were taken out.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Takes the next message out of the payload. `None` after the last one, or if the payload is another one
    /// and has no message there.
    pub fn next<'p>(&mut self, payload: &'p [u8]) -> Option<&'p [u8]> {
        let messages = self.messages.checked_sub(1)?;
        let (len, rest) = payload.get(self.at..)?.split_first_chunk::<PREFIX>()?;
        let message = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        self.at += PREFIX + message.len();
        self.messages = messages;
        Some(message)
    }

    /// The messages that were not taken out, without taking them.
    pub fn iter(mut self, payload: &[u8]) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || self.next(payload))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut packing = Packing::default();
        for message in messages {
            let len = packing.len();
            assert!(packing.push(message));
            assert_eq!(packing.len() - len, Packing::cost(message.len()));
        }
        assert_eq!(packing.messages() as usize, messages.len());
        let (bytes, start) = packing.take();
        assert_eq!((packing.is_empty(), packing.len()), (true, 0));
        bytes[start..].to_vec()
    }

    #[test]
    fn one_message_is_its_own_payload() {
        assert_eq!(pack(&[b"one".to_vec()]), b"one");
        assert_eq!(pack(&[b"one".to_vec(), b"".to_vec()]), b"\x03\0\0\0one\0\0\0\0");
        assert_eq!(pack(&[]), b"");
    }

    /// No claim costs more than the bytes that are there.
    #[test]
    fn hostile_counts_and_lengths_are_refused_by_name() {
        assert_eq!(Unpacking::new(&[], u32::MAX), Err(BatchError::Cut(0)));
        assert_eq!(Unpacking::new(&[0; 8], u32::MAX), Err(BatchError::Cut(2)));
        assert_eq!(Unpacking::new(&[0; 8], 1), Err(BatchError::Rest(4)));
        assert_eq!(Unpacking::new(&[0; 7], 2), Err(BatchError::Cut(1)));
        assert_eq!(Unpacking::new(&[0xff; 4], 1), Err(BatchError::Cut(0)));
        assert_eq!(Unpacking::new(&[2, 0, 0, 0, 7], 1), Err(BatchError::Cut(0)));
        assert_eq!(Unpacking::new(b"rest", 0), Err(BatchError::Rest(4)));
    }

    #[test]
    fn another_payload_yields_no_message_where_it_has_none() {
        let payload = pack(&[vec![1; 5], vec![2; 5]]);
        let mut rest = Unpacking::new(&payload, 2).expect("a batch");
        assert_eq!(rest.next(&payload), Some(&[1; 5][..]));
        for len in 0..payload.len() {
            assert_eq!(rest.next(&payload[..len]), None);
        }
        assert_eq!((rest.messages(), rest.next(&payload), rest.next(&payload)), (1, Some(&[2; 5][..]), None));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 2..20),
            taken in 0..20_usize,
        ) {
            let payload = pack(&messages);
            let mut rest = Unpacking::new(&payload, messages.len() as u32).expect("a batch");
            let taken = taken.min(messages.len());
            for message in &messages[..taken] {
                prop_assert_eq!(rest.next(&payload), Some(&message[..]));
            }
            prop_assert_eq!(rest.messages() as usize, messages.len() - taken);
            prop_assert_eq!(rest.iter(&payload).collect::<Vec<_>>(), &messages[taken..]);
        }

        #[test]
        fn a_payload_has_one_number_of_messages_at_most(
            bytes in prop::collection::vec(0..3_u8, 0..40),
        ) {
            let counts: Vec<_> = (0..20).filter(|&count| Unpacking::new(&bytes, count).is_ok()).collect();
            prop_assert!(counts.len() <= 1, "{:?}", counts);
        }
    }
}
