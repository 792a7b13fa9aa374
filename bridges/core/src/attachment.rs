//! [`Attachment`]: what accompanies a message.
//!
//! ```text
//! byte   0   4  magic "BCST"
//!        4   1  version: 1
//!        5   1  flags: bit 0 set if there is no message, because its publisher has ended
//!        6   1  hops: bridges that have sent the message, 1
//!        7   1  0
//!        8  16  origin
//!       24   8  publisher
//!       32   8  sequence
//!       40   8  fingerprint of the schema
//!       48   8  nanoseconds since 1970, or 0
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

/// What accompanies a message between two bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The broker on which the message was published.
    pub origin: Origin,
    /// The publisher's number on that broker. Never used twice.
    pub publisher: u64,
    /// The message's position among those of its publisher. If [`is_end`](Self::is_end), the number of
    /// messages that it has published.
    pub sequence: u64,
    /// The fingerprint of the topic's schema.
    pub fingerprint: u64,
    /// When the message was published, in nanoseconds since 1970, or 0 if that is not known.
    pub time: u64,
    /// There is no message: the publisher has ended.
    pub is_end: bool,
}

/// The bytes are not an attachment that this version understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// The bytes do not start like an attachment. Another program has sent them.
    #[error("the attachment does not start with the magic number of one")]
    Magic,
    /// Another version has sent it: use one version.
    #[error("the attachment has version {0}, but this bridge understands version 1")]
    Version(u8),
    /// It is shorter or longer than an attachment of its version.
    #[error("the attachment has {0} bytes instead of 56")]
    Length(usize),
    /// Bits are set that mean nothing in this version.
    #[error("the attachment has flags or reserved bits that version 1 does not define")]
    Reserved,
    /// The message has come through another number of bridges than one.
    #[error("the message has come through {0} bridges instead of one")]
    Hops(u8),
    /// The message's position is so large that counting from it could overflow.
    #[error("the sequence {0} is impossible")]
    Sequence(u64),
}

const MAGIC: [u8; 4] = *b"BCST";
const VERSION: u8 = 1;
const END: u8 = 1;
const HOPS: u8 = 1;

/// A sequence that no publisher reaches.
const UNREACHABLE: u64 = 1 << 62;

impl Attachment {
    /// Bytes of an encoded attachment.
    pub const LEN: usize = 56;

    /// Of message `sequence` of a publisher.
    #[must_use]
    pub const fn message(origin: Origin, publisher: u64, sequence: u64) -> Self {
        Self { origin, publisher, sequence, fingerprint: 0, time: 0, is_end: false }
    }

    /// Of the end of a publisher that has published `count` messages.
    #[must_use]
    pub const fn end(origin: Origin, publisher: u64, count: u64) -> Self {
        Self { is_end: true, ..Self::message(origin, publisher, count) }
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

    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..7].copy_from_slice(&[VERSION, if self.is_end { END } else { 0 }, HOPS]);
        bytes[8..24].copy_from_slice(&self.origin.0.to_le_bytes());
        let numbers = [self.publisher, self.sequence, self.fingerprint, self.time];
        for (index, number) in numbers.into_iter().enumerate() {
            bytes[24 + 8 * index..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Decodes it. Each attachment has one encoding.
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
        if flags & !END != 0 || bytes[7] != 0 {
            return Err(AttachmentError::Reserved);
        }
        if hops != HOPS {
            return Err(AttachmentError::Hops(hops));
        }
        let (words, _) = bytes.as_chunks::<8>();
        let number = |word: usize| u64::from_le_bytes(words[word]);
        let sequence = number(4);
        if sequence >= UNREACHABLE {
            return Err(AttachmentError::Sequence(sequence));
        }
        Ok(Self {
            origin: Origin(u128::from(number(2)) << 64 | u128::from(number(1))),
            publisher: number(3),
            sequence,
            fingerprint: number(5),
            time: number(6),
            is_end: flags & END != 0,
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
        assert_eq!(refused(4, 2), Err(AttachmentError::Version(2)));
        assert_eq!(refused(5, 2), Err(AttachmentError::Reserved));
        assert_eq!(refused(7, 1), Err(AttachmentError::Reserved));
        assert_eq!(refused(6, 0), Err(AttachmentError::Hops(0)));
        assert_eq!(refused(6, 2), Err(AttachmentError::Hops(2)));
        assert_eq!(refused(39, 0x40), Err(AttachmentError::Sequence(1 << 62 | 7)));
        for len in 0..Attachment::LEN {
            let expected = if len < 4 { AttachmentError::Magic } else { AttachmentError::Length(len) };
            assert_eq!(Attachment::decode(&good[..len]), Err(expected));
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(Attachment::decode(&longer), Err(AttachmentError::Length(57)));
    }
}
