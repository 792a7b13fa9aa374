//! What can go wrong, one enum per concern.

use crate::payload::schema::Schema;

/// A channel could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// A number in the configuration is outside its range; the text names it and the range.
    #[error("invalid channel configuration: {0}")]
    Config(String),
    /// The operating system refused memory, address space or a file descriptor.
    #[error("the system refused a channel of {bytes} bytes: {reason}")]
    System {
        /// Size of the arena asked for.
        bytes: u64,
        /// What it refused, and its own words.
        reason: String,
    },
    /// The process may not make a file as large as the arena or the control segment: raise `RLIMIT_FSIZE`, or ask for
    /// fewer or smaller blocks.
    #[error(
        "a channel needs a file of {bytes} bytes in memory, and this process may make files of {limit} bytes at most \
         (RLIMIT_FSIZE, `ulimit -f`): raise the limit, or ask for fewer or smaller blocks"
    )]
    FileSize {
        /// Size of the arena asked for.
        bytes: u64,
        /// Largest file that the process may make.
        limit: u64,
    },
    /// The process has too few memory mappings left: close publishers or end components, or raise `vm.max_map_count`.
    #[error(
        "no channel: the process has {left} memory mappings left, of which {reserve} are kept in reserve: \
         close publishers or end components, or raise vm.max_map_count"
    )]
    Mappings {
        /// Mappings that the process can still make.
        left: usize,
        /// How many of them are kept for the program itself.
        reserve: usize,
    },
    /// The memory that was brought for the blocks cannot hold them.
    #[error("the memory provided for the channel cannot be used: {0}")]
    Memory(#[from] MemoryError),
}

/// Memory that was brought for an arena cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Bring a file of `memfd_create(2)`.
    #[error("it is not a file made by memfd_create")]
    NoMemfd,
    /// It is not sealed against shrinking and no seal can be added: make it with `MFD_ALLOW_SEALING`.
    #[error("it can shrink and cannot be sealed against that: create it with MFD_ALLOW_SEALING")]
    CanShrink,
    /// It is sealed against writing, or was opened for reading only.
    #[error("it cannot be written: open it for writing, and do not seal it against writing")]
    ReadOnly,
    /// Make it longer, or ask for fewer or smaller blocks.
    #[error("it has {bytes} bytes, but {needed} are needed: enlarge it, or ask for fewer or smaller blocks")]
    TooSmall {
        /// Bytes that the blocks need, in whole pages.
        needed: u64,
        /// Bytes that it has.
        bytes: u64,
    },
    /// The operating system refused to say what it is.
    #[error("the system refused: {0}")]
    System(String),
}

/// No block could be loaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoanError {
    /// No block of the publisher is that large: open the publisher with a larger block size.
    #[error("a message of {needed} bytes does not fit a block of {block_size} bytes")]
    TooLarge {
        /// Bytes asked for.
        needed: usize,
        /// Bytes that a block has.
        block_size: usize,
    },
    /// Every block is published and still needed, or held: wait, drop samples, or open the publisher with
    /// more blocks.
    #[error("all {blocks} blocks are in use")]
    Exhausted {
        /// Size of the pool.
        blocks: u32,
    },
    /// The process was forked after the publisher was opened: open another one in the child.
    #[error("the publisher belongs to the process that was forked: open one in this process")]
    Forked,
    /// Waited until the deadline and no block came free.
    #[error("no block came free before the deadline")]
    Deadline,
    /// In a guest: the host does not take the message.
    #[error("the host does not publish: {0}")]
    Refused(&'static str),
}

/// A subscriber could not join a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The subscriber reads another layout than the publisher writes.
    #[error("the channel carries {channel}, the subscriber reads {subscriber}")]
    SchemaMismatch {
        /// What the publisher writes.
        channel: Schema,
        /// What the subscriber asked for.
        subscriber: Schema,
    },
    /// All cursors are taken: open the publisher with a larger `max_subscribers`.
    #[error(
        "the channel already has {limit} subscribers: open the publisher with a larger `max_subscribers`"
    )]
    Full {
        /// Most subscribers at a time.
        limit: u32,
    },
    /// The publisher is gone, and so is its memory.
    #[error("the publisher has gone")]
    Ended,
    /// The process was forked after the channel was made: its messages are not here.
    #[error("the channel belongs to the process that was forked: open one in this process")]
    Forked,
    /// The system refused a process-wide barrier (`membarrier`), as it may when it is short of memory: try again.
    #[error("the system refused a process-wide memory barrier (membarrier): try again")]
    Barrier,
}

/// Nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// No message yet.
    #[error("no message yet")]
    Empty,
    /// The publisher is gone and everything it published was received.
    #[error("the channel has ended")]
    Ended,
    /// The process was forked after the subscriber had joined: subscribe anew in the child.
    #[error("the subscriber belongs to the process that was forked: open one in this process")]
    Forked,
    /// The publisher overtook this subscriber: that many messages were lost; the next receive goes on after
    /// them.
    #[error("{0} messages were lost")]
    Lost(u64),
    /// The subscriber keeps as many samples of this publisher as it may, and receives nothing until it has dropped some: see
    /// [`ReaderOptions::samples`](crate::ReaderOptions::samples).
    #[error("{kept} samples of one publisher are kept, and no more may be: drop some, or allow more")]
    TooManySamples {
        /// How many it keeps.
        kept: u32,
    },
    /// In a guest: the host does not deliver.
    #[error("the host does not deliver: {0}")]
    Refused(&'static str),
}

/// A topic could not be opened for publishing or subscribing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A topic's name has 1 to 255 bytes and only visible characters: see [`text::is_invisible`](crate::text::is_invisible).
    #[error(
        "{0:?} cannot be the name of a topic, which has 1 to 255 bytes and no control or format characters"
    )]
    BadName(String),
    /// The topic exists with another schema.
    #[error("topic {topic:?} carries {}, asked for {asked}", carried(existing.as_ref()))]
    SchemaMismatch {
        /// Name of the topic.
        topic: String,
        /// What its first participant brought. `None` where that is not told: to a guest.
        existing: Option<Schema>,
        /// What this participant brings.
        asked: Schema,
    },
    /// The participant was not granted this topic.
    #[error("not granted: {access} {topic:?}")]
    Denied {
        /// `publish` or `subscribe`.
        access: &'static str,
        /// Name of the topic.
        topic: String,
    },
    /// One of the topic's publishers has no room for another subscriber.
    #[error("topic {topic:?}: {reason}")]
    Join {
        /// Name of the topic.
        topic: String,
        /// Why.
        reason: JoinError,
    },
    /// The publisher's channel could not be made.
    #[error("topic {topic:?}: {reason}")]
    Channel {
        /// Name of the topic.
        topic: String,
        /// Why.
        reason: ChannelError,
    },
    /// The topic was declared unsealed: its messages can change while they are read, so only guests, whose
    /// sandbox contains what comes of that, may subscribe to it.
    #[error("topic {topic:?} is unsealed: only guests may subscribe to it")]
    Unsealed {
        /// Name of the topic.
        topic: String,
    },
    /// The topic exists already and is not unsealed: declare it before its first participant joins.
    #[error("topic {topic:?} exists and is sealed: declare it unsealed before its first participant joins")]
    Sealed {
        /// Name of the topic.
        topic: String,
    },
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Closed,
    /// The process was forked after the broker was made, and its topics are the parent's: make another broker in the child.
    #[error("the broker belongs to the process that was forked: make one in this process")]
    Forked,
    /// The host refused for another reason, given in its words.
    #[error("the host refused: {0}")]
    Refused(String),
}

/// Whether a character cannot be in a topic's name. A tab cannot either.
fn is_name_breaking(c: char) -> bool {
    c == '\t' || crate::text::is_invisible(c)
}

/// Longest name of a topic in bytes.
const MAX_NAME: usize = 255;

impl OpenError {
    /// Checks that a topic can have this name.
    ///
    /// # Errors
    /// [`OpenError::BadName`].
    pub fn check_name(topic: &str) -> Result<(), Self> {
        if topic.is_empty() || topic.len() > MAX_NAME || topic.chars().any(is_name_breaking) {
            return Err(Self::BadName(topic.to_owned()));
        }
        Ok(())
    }
}

fn carried(schema: Option<&Schema>) -> String {
    schema.map_or_else(|| "another schema".to_owned(), Schema::to_string)
}
