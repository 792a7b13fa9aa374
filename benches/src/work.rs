//! The work of a candidate: [`FanOut`] in one thread, [`Source`] and [`Sink`] in two.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// First byte of a message that is not rewritten.
pub const FIRST: u8 = 0xA5;
/// Last byte of a message that is not rewritten.
pub const LAST: u8 = 0x5A;

/// Size and receivers of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Bytes of a message, at least 16.
    pub payload: usize,
    /// Number of subscribers, each of which receives every message.
    pub subscribers: usize,
    /// Blocks of the pool, or slots of the queue: the maximum number of messages in flight.
    pub blocks: usize,
    /// The content of a message.
    pub content: Content,
    /// How both sides wait.
    pub wait: Wait,
}

/// The content that the publisher writes to each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing. The first and the last byte of every block are set on its first use. Senders of `Arc`s send
    /// prepared ones.
    Marked,
    /// All bytes: a number in the first eight, and its lowest byte in all others. The subscriber checks the
    /// number and the last byte.
    Numbered,
}

/// How one thread waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// It spins.
    Spin,
    /// It calls the candidate's blocking function.
    Block,
}

/// Counts received messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Number of messages.
    pub messages: u64,
    /// Sum of the touched bytes.
    pub sum: u64,
    /// Number of messages with wrong content.
    pub wrong: u64,
}

impl Tally {
    /// Counts a message of [`Content::Marked`] and touches its first and last byte.
    #[inline(always)]
    pub fn touch(&mut self, bytes: &[u8]) {
        self.messages += 1;
        self.sum += u64::from(bytes[0]) + u64::from(bytes[bytes.len() - 1]);
    }

    /// Counts a message of [`Content::Numbered`], which should carry `number`.
    #[inline(always)]
    pub fn check(&mut self, bytes: &[u8], number: u64) {
        self.messages += 1;
        let carried = u64::from_le_bytes(bytes[..8].try_into().expect("a message has at least 16 bytes"));
        self.wrong += u64::from(carried != number || bytes[bytes.len() - 1] != number as u8);
    }

    /// Counts a message of either content.
    #[inline(always)]
    pub fn take(&mut self, content: Content, bytes: &[u8], number: u64) {
        match content {
            Content::Marked => self.touch(bytes),
            Content::Numbered => self.check(bytes, number),
        }
    }

    /// Returns the tally of `messages` messages of [`Content::Marked`].
    #[must_use]
    pub fn of_marked(messages: u64) -> Self {
        Self { messages, sum: messages * (u64::from(FIRST) + u64::from(LAST)), wrong: 0 }
    }

    /// Returns whether this is the tally of `messages` messages of `content`.
    #[must_use]
    pub fn is_complete(&self, content: Content, messages: u64) -> bool {
        *self
            == match content {
                Content::Marked => Self::of_marked(messages),
                Content::Numbered => Self { messages, ..Self::default() },
            }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, part: Self) {
        self.messages += part.messages;
        self.sum += part.sum;
        self.wrong += part.wrong;
    }
}

/// Writes message `number` in place.
#[inline(always)]
pub fn fill(content: Content, bytes: &mut [u8], number: u64) {
    match content {
        Content::Marked => {
            if bytes[0] != FIRST {
                mark(bytes);
            }
        }
        Content::Numbered => {
            bytes[8..].fill(number as u8);
            bytes[..8].copy_from_slice(&number.to_le_bytes());
        }
    }
}

#[cold]
fn mark(bytes: &mut [u8]) {
    bytes[0] = FIRST;
    let last = bytes.len() - 1;
    bytes[last] = LAST;
}

/// A candidate in one thread.
pub trait FanOut {
    /// Publishes `messages` messages one after another. After each, every subscriber receives it, touches its
    /// first and last byte, and releases it.
    fn run(&mut self, messages: u64) -> Tally;
}

/// The publishing half of a candidate in two threads. It waits for room and loses nothing.
pub trait Source {
    /// Publishes messages numbered from `first`.
    fn publish(&mut self, first: u64, messages: u64);
}

/// The subscribing half.
pub trait Sink {
    /// Receives messages numbered from `first`, and waits for them.
    fn receive(&mut self, first: u64, messages: u64) -> Tally;
}

/// Creates a [`Source`] in its own thread.
pub type MakeSource = Box<dyn FnOnce() -> Box<dyn Source> + Send>;
/// Creates a [`Sink`] in its own thread. Every sink is created before the first source.
pub type MakeSink = Box<dyn FnOnce() -> Box<dyn Sink> + Send>;

/// Both halves, not yet created.
pub struct Halves {
    /// Creates the publishing half.
    pub source: MakeSource,
    /// Creates the subscribing half.
    pub sink: MakeSink,
}

impl Halves {
    /// Wraps halves that already exist and can be moved to their threads.
    #[must_use]
    pub fn ready(source: impl Source + Send + 'static, sink: impl Sink + Send + 'static) -> Self {
        Self { source: Box::new(|| Box::new(source)), sink: Box::new(|| Box::new(sink)) }
    }
}

impl std::fmt::Debug for Halves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Halves").finish_non_exhaustive()
    }
}

/// One of the compared programs. What it cannot do is `None`.
pub trait Candidate: Send + Sync {
    /// Its name in tables and records.
    fn name(&self) -> &'static str;

    /// Receives by reference if the candidate can, otherwise owned.
    fn fan_out(&self, shape: Shape) -> Option<Box<dyn FanOut>>;

    /// Receives samples that can be sent to another thread, or at least be kept and dropped in any order.
    fn fan_out_owned(&self, shape: Shape) -> Option<Box<dyn FanOut>>;

    /// One publisher, one subscriber.
    fn halves(&self, shape: Shape) -> Option<Halves>;
}
