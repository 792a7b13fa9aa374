//! Newtypes for the numbers that travel through a channel, so that two of them are never mixed up.

use std::fmt;

/// Position of a message in its channel, counted from 0 in steps of 1.
///
/// A channel's sequence seen as time is its *epoch*: a subscriber's epoch is the oldest sequence that
/// it may still be attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// The first message of every channel.
    pub const FIRST: Self = Self(0);

    /// The sequence with the given position.
    #[must_use]
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The position as a plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The message after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Identity of a publisher (and so of its channel), unique within one broker for as long as it lives.
///
/// Guests and libraries only see 32 bits: the lower ones, or for a publisher of another process a number that
/// their host gives it. They cannot tell a publisher from the one 2^31 numbers later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherId(u64);

impl PublisherId {
    /// The publisher with the given number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The lower 32 bits. Not a key.
    #[must_use]
    pub const fn short(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// Time of publishing in nanoseconds of the system's monotonic clock (`CLOCK_MONOTONIC`), or
/// [`Timestamp::NONE`] if the channel does not stamp its messages.
///
/// Only comparable within one boot of one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The timestamp of messages without one.
    pub const NONE: Self = Self(0);

    /// The timestamp with the given number of nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The current time. 26 ns natively, and a host call in a guest.
    #[must_use]
    pub fn now() -> Self {
        #[cfg(not(target_family = "wasm"))]
        return crate::sys::clock::precise();
        #[cfg(target_family = "wasm")]
        return crate::client::Runtime::current().now();
    }

    /// Nanoseconds since the monotonic clock's start; 0 for [`Timestamp::NONE`].
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
