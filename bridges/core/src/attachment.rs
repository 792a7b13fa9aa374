//! [`Attachment`]: what accompanies a payload.
//!
//! ```text
//! byte   0   4  magic "BCST"
//!        4   1  version: 2
//!        5   1  flags: bit 0 set if there is a check
//!        6   1  hops: bridges that have sent the messages, 1
//!        7   1  0
//!        8  16  origin
//!       24   8  publisher
//!       32   8  sequence of the first message
//!       40   8  fingerprint of the schema
//!       48   8  nanoseconds since 1970, or 0
//!       56   4  messages in the payload: 0 if the publisher has ended, 2 or more in a batch
//!       60   4  check: CRC-32 of bytes 0 to 59 and of the payload, or 0 without one
//! ```
//! All numbers are little-endian.

use std::fmt;

/// Identifies a broker among all that are connected, for as long as it exists. Random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(u128);

impl Origin {
    /// The origin with this number.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// What accompanies messages between two bridges: one, a batch, or none, if a publisher has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The broker on which the messages were published.
    pub origin: Origin,
    /// The publisher's number on that broker. Never used twice.
    pub publisher: u64,
    /// The first message's position among those of its publisher. The others follow it without a gap. If the
    /// publisher [has ended](Self::is_end), the number of messages that it has published.
    pub sequence: u64,
    /// The fingerprint of the topic's schema.
    pub fingerprint: u64,
    /// When the first message was published, in nanoseconds since 1970, or 0 if that is not known.
    pub time: u64,
    /// The number of messages in the payload: 0 if the publisher has ended, and 2 or more in a
    /// [batch](crate::batch).
    pub messages: u32,
    /// The [check](Self::checked) of the payload and the above, if there is one.
    pub check: Option<u32>,
}

/// The bytes are not an attachment that this version understands, or it belongs to another payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// The bytes do not start like an attachment. Another program has sent them.
    #[error("the attachment does not start with the magic number of one")]
    Magic,
    /// Another version has sent it: use one version.
    #[error("the attachment has version {0}, but this bridge understands version 2")]
    Version(u8),
    /// It is shorter or longer than an attachment of its version.
    #[error("the attachment has {0} bytes instead of 64")]
    Length(usize),
    /// Bits are set that mean nothing in this version.
    #[error("the attachment has flags or reserved bits that version 2 does not define")]
    Reserved,
    /// The messages have come through another number of bridges than one.
    #[error("the messages have come through {0} bridges instead of one")]
    Hops(u8),
    /// The last message's position is so large that counting from it could overflow.
    #[error("the sequence {0} is impossible")]
    Sequence(u64),
    /// The check is another one than that of the attachment and its payload: some of their bytes are wrong.
    #[error("the check of the attachment and its payload is {found:#010x} instead of {expected:#010x}")]
    Check {
        /// What the bytes have.
        found: u32,
        /// What the attachment says.
        expected: u32,
    },
}

const MAGIC: [u8; 4] = *b"BCST";
const VERSION: u8 = 2;
const CHECKED: u8 = 1;
const HOPS: u8 = 1;

/// Where the check is.
const CHECK: usize = 60;

/// A sequence that no publisher reaches.
const UNREACHABLE: u64 = 1 << 62;

impl Attachment {
    /// Bytes of an encoded attachment.
    pub const LEN: usize = 64;

    /// Of message `sequence` of a publisher.
    #[must_use]
    pub const fn message(origin: Origin, publisher: u64, sequence: u64) -> Self {
        Self { origin, publisher, sequence, fingerprint: 0, time: 0, messages: 1, check: None }
    }

    /// Of the end of a publisher that has published `count` messages.
    #[must_use]
    pub const fn end(origin: Origin, publisher: u64, count: u64) -> Self {
        Self { messages: 0, ..Self::message(origin, publisher, count) }
    }

    /// Sets the number of messages that share the payload.
    #[must_use]
    pub const fn messages(self, messages: u32) -> Self {
        Self { messages, ..self }
    }

    /// Sets the fingerprint of the schema.
    #[must_use]
    pub const fn fingerprint(self, fingerprint: u64) -> Self {
        Self { fingerprint, ..self }
    }

    /// Sets the time, in nanoseconds since 1970.
    #[must_use]
    pub const fn time(self, time: u64) -> Self {
        Self { time, ..self }
    }

    /// Adds a check of everything else in it and of the payload, which may come in several parts.
    #[must_use]
    pub fn checked<'p>(self, payload: impl IntoIterator<Item = &'p [u8]>) -> Self {
        Self { check: Some(self.sum(payload)), ..self }
    }

    /// Compares the check with the payload, if there is a check.
    ///
    /// # Errors
    /// [`AttachmentError::Check`].
    pub fn verify<'p>(&self, payload: impl IntoIterator<Item = &'p [u8]>) -> Result<(), AttachmentError> {
        let Some(expected) = self.check else { return Ok(()) };
        let found = self.sum(payload);
        if found == expected { Ok(()) } else { Err(AttachmentError::Check { found, expected }) }
    }

    fn sum<'p>(&self, payload: impl IntoIterator<Item = &'p [u8]>) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&Self { check: Some(0), ..*self }.encode()[..CHECK]);
        payload.into_iter().for_each(|part| sum.update(part));
        sum.finalize()
    }

    /// Whether there is no message: the publisher has ended.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        self.messages == 0
    }

    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..7].copy_from_slice(&[VERSION, if self.check.is_some() { CHECKED } else { 0 }, HOPS]);
        bytes[8..24].copy_from_slice(&self.origin.0.to_le_bytes());
        let numbers = [self.publisher, self.sequence, self.fingerprint, self.time];
        for (index, number) in numbers.into_iter().enumerate() {
            bytes[24 + 8 * index..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[56..CHECK].copy_from_slice(&self.messages.to_le_bytes());
        bytes[CHECK..].copy_from_slice(&self.check.unwrap_or(0).to_le_bytes());
        bytes
    }

    /// Decodes it. Each attachment has one encoding. Does not [compare](Self::verify) the check.
    ///
    /// # Errors
    /// [`AttachmentError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AttachmentError> {
        if bytes.get(..4) != Some(&MAGIC) {
            return Err(AttachmentError::Magic);
        }
        match bytes.get(4) {
            Some(&VERSION) => {}
            Some(&other) => return Err(AttachmentError::Version(other)),
            None => return Err(AttachmentError::Length(bytes.len())),
        }
        let bytes: &[u8; Self::LEN] = bytes.try_into().map_err(|_| AttachmentError::Length(bytes.len()))?;
        let (flags, hops) = (bytes[5], bytes[6]);
        let (words, _) = bytes.as_chunks::<8>();
        let number = |word: usize| u64::from_le_bytes(words[word]);
        let (messages, check) = (number(7) as u32, (number(7) >> 32) as u32);
        if flags & !CHECKED != 0 || bytes[7] != 0 || (flags & CHECKED == 0 && check != 0) {
            return Err(AttachmentError::Reserved);
        }
        if hops != HOPS {
            return Err(AttachmentError::Hops(hops));
        }
        let sequence = number(4);
        let last = sequence.saturating_add(u64::from(messages.saturating_sub(1)));
        if last >= UNREACHABLE {
            return Err(AttachmentError::Sequence(sequence));
        }
        Ok(Self {
            origin: Origin(u128::from(number(2)) << 64 | u128::from(number(1))),
            publisher: number(3),
            sequence,
            fingerprint: number(5),
            time: number(6),
            messages,
            check: (flags & CHECKED != 0).then_some(check),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_to_the_first_eight_bytes_is_refused_by_name() {
        let good = Attachment::message(Origin::new(3), 5, 7).encode();
        let refused = |at: usize, to: u8| {
            let mut bytes = good;
            bytes[at] = to;
            Attachment::decode(&bytes)
        };
        assert_eq!(refused(0, b'C'), Err(AttachmentError::Magic));
        assert_eq!(refused(4, 1), Err(AttachmentError::Version(1)));
        assert_eq!(refused(5, 2), Err(AttachmentError::Reserved));
        assert_eq!(refused(7, 1), Err(AttachmentError::Reserved));
        assert_eq!(refused(60, 1), Err(AttachmentError::Reserved), "a check that is not there");
        assert_eq!(refused(6, 0), Err(AttachmentError::Hops(0)));
        assert_eq!(refused(6, 2), Err(AttachmentError::Hops(2)));
        assert_eq!(refused(39, 0x40), Err(AttachmentError::Sequence(1 << 62 | 7)));
        for len in 0..Attachment::LEN {
            let expected = if len < 4 { AttachmentError::Magic } else { AttachmentError::Length(len) };
            assert_eq!(Attachment::decode(&good[..len]), Err(expected));
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(Attachment::decode(&longer), Err(AttachmentError::Length(65)));
    }

    #[test]
    fn the_last_message_of_a_batch_has_a_possible_sequence() {
        let batch = |first, messages| {
            let attachment = Attachment::message(Origin::new(3), 5, first).messages(messages);
            Attachment::decode(&attachment.encode()).map(|decoded| assert_eq!(decoded, attachment))
        };
        assert_eq!(batch(UNREACHABLE - 3, 3), Ok(()));
        assert_eq!(batch(UNREACHABLE - 3, 4), Err(AttachmentError::Sequence(UNREACHABLE - 3)));
        assert_eq!(batch(u64::MAX, u32::MAX), Err(AttachmentError::Sequence(u64::MAX)));
        assert_eq!(batch(UNREACHABLE - 1, 0), Ok(()));
        assert_eq!(batch(UNREACHABLE, 0), Err(AttachmentError::Sequence(UNREACHABLE)));
    }

    #[test]
    fn the_check_covers_every_bit_of_the_attachment_and_its_payload() {
        let payload = *b"what is sent";
        let attachment =
            Attachment::message(Origin::new(3), 5, 7).messages(2).time(9).checked([&payload[..]]);
        let encoded = attachment.encode();
        let verify = |attachment: &[u8], payload: &[u8]| {
            let (one, other) = payload.split_at(payload.len() / 3);
            Attachment::decode(attachment)?.verify([one, &[], other])
        };
        assert_eq!(verify(&encoded, &payload), Ok(()));
        for bit in 0..8 * Attachment::LEN {
            let mut changed = encoded;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&changed, &payload).is_err(), "bit {bit} of the attachment");
        }
        for bit in 0..8 * payload.len() {
            let mut changed = payload;
            changed[bit / 8] ^= 1 << (bit % 8);
            let refused = verify(&encoded, &changed);
            assert!(matches!(refused, Err(AttachmentError::Check { .. })), "bit {bit} of the payload");
        }
        assert!(verify(&encoded, &payload[1..]).is_err());
        let unchecked = Attachment { check: None, ..attachment };
        assert_eq!(verify(&unchecked.encode(), b"anything"), Ok(()));
    }
}
