//! What every candidate does: [`FanOut`] in one thread, [`Source`] and [`Sink`] in two.

/// First byte of a message that is not written anew.
pub const FIRST: u8 = 0xA5;
/// Last byte of a message that is not written anew.
pub const LAST: u8 = 0x5A;

/// What a message is and who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a message, at least 16.
    pub payload: usize,
    /// Subscribers; each receives every message.
    pub subscribers: usize,
    /// Blocks of the pool, or slots of the queue: messages that can be on their way.
    pub blocks: usize,
    /// What the publisher writes.
    pub content: Content,
    /// How both sides wait.
    pub wait: Wait,
}

/// What the publisher writes into each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing. The first and the last byte of every block are set when it is used for the first time; senders of
    /// `Arc`s send prepared ones.
    Marked,
    /// All of it: a number in the first eight bytes, its lowest byte in all others. The subscriber checks the
    /// number and the last byte.
    Numbered,
}

/// How a thread waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It keeps looking.
    Spin,
    /// It calls what the candidate has for blocking.
    Block,
}

/// What was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub messages: u64,
    /// Sum of the bytes touched.
    pub sum: u64,
    /// Messages whose content was not what was sent.
    pub wrong: u64,
}

impl Tally {
    /// Counts a message of [`Content::Marked`] and touches its first and last byte.
    #[inline(always)]
    pub fn touch(&mut self, bytes: &[u8]) {
        self.messages += 1;
        self.sum += u64::from(bytes[0]) + u64::from(bytes[bytes.len() - 1]);
    }

    /// Counts a message of [`Content::Numbered`] that should carry `number`.
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

    /// What `messages` of [`Content::Marked`] add up to.
    #[must_use]
    pub fn of_marked(messages: u64) -> Self {
        Self { messages, sum: messages * (u64::from(FIRST) + u64::from(LAST)), wrong: 0 }
    }

    /// Whether this is what `messages` of `content` add up to.
    #[must_use]
    pub fn is_complete(&self, content: Content, messages: u64) -> bool {
        *self
            == match content {
                Content::Marked => Self::of_marked(messages),
                Content::Numbered => Self { messages, ..Self::default() },
            }
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
    /// Publishes `messages` one after the other. After each, every subscriber receives it, touches its first
    /// and last byte, and lets go of it.
    fn run(&mut self, messages: u64) -> Tally;
}

/// The publisher's half of a candidate in two threads. Loses nothing: it waits for room.
pub trait Source {
    /// Publishes the messages numbered from `first` on.
    fn publish(&mut self, first: u64, messages: u64);
}

/// The subscriber's half.
pub trait Sink {
    /// Receives the messages numbered from `first` on, waiting for them.
    fn receive(&mut self, first: u64, messages: u64) -> Tally;
}

/// Makes a [`Source`] in the thread that it belongs to.
pub type MakeSource = Box<dyn FnOnce() -> Box<dyn Source> + Send>;
/// Makes a [`Sink`] in the thread that it belongs to; every sink is made before the first source.
pub type MakeSink = Box<dyn FnOnce() -> Box<dyn Sink> + Send>;

/// Both halves, not made yet.
pub struct Halves {
    /// The publisher's.
    pub source: MakeSource,
    /// The subscriber's.
    pub sink: MakeSink,
}

impl Halves {
    /// Halves that exist already and can be moved to their threads.
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

/// One of those that are compared. What it has no way to do is `None`.
pub trait Candidate: Send + Sync {
    /// As it is called in tables and records.
    fn name(&self) -> &'static str;

    /// By reference where the candidate can, otherwise owned.
    fn fan_out(&self, shape: Shape) -> Option<Box<dyn FanOut>>;

    /// What is received can be sent to another thread, or at least be kept and dropped in any order.
    fn fan_out_owned(&self, shape: Shape) -> Option<Box<dyn FanOut>>;

    /// One publisher, one subscriber.
    fn halves(&self, shape: Shape) -> Option<Halves>;
}
