//! Errors, one enum per concern.

use crate::payload::schema::Schema;

/// A channel could not be created.
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
        /// The action that the system refused, with its own message.
        reason: String,
    },
    /// The arena or the control segment exceeds the file size limit of the process: raise `RLIMIT_FSIZE`, or
    /// ask for fewer or smaller blocks.
    #[error(
        "a channel needs a memory file of {bytes} bytes, but this process may only create files of up to {limit} bytes \
         (RLIMIT_FSIZE, `ulimit -f`): raise the limit, or ask for fewer or smaller blocks"
    )]
    FileSize {
        /// Size of the arena asked for.
        bytes: u64,
        /// Largest file that the process may create.
        limit: u64,
    },
    /// The process has too few memory mappings left: close publishers or end components, or raise
    /// `vm.max_map_count`.
    #[error(
        "no channel: the process has {left} memory mappings left, of which {reserve} are kept in reserve: \
         close publishers or end components, or raise vm.max_map_count"
    )]
    Mappings {
        /// Mappings that the process can still create.
        left: usize,
        /// How many of them are reserved for the program itself.
        reserve: usize,
    },
    /// The external memory cannot hold the blocks.
    #[error("the memory provided for the channel cannot be used: {0}")]
    Memory(#[from] MemoryError),
}

/// External memory cannot be used as an arena.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The file was not created by `memfd_create(2)`.
    #[error("it is not a file made by memfd_create")]
    NoMemfd,
    /// The file is not sealed against shrinking, and no seal can be added: create it with
    /// `MFD_ALLOW_SEALING`.
    #[error("it can shrink and cannot be sealed against that: create it with MFD_ALLOW_SEALING")]
    CanShrink,
    /// The file is sealed against writing, or was opened for reading only.
    #[error("it cannot be written: open it for writing, and do not seal it against writing")]
    ReadOnly,
    /// The file is too short: enlarge it, or ask for fewer or smaller blocks.
    #[error("it has {bytes} bytes, but {needed} are needed: enlarge it, or ask for fewer or smaller blocks")]
    TooSmall {
        /// Bytes that the blocks need, in whole pages.
        needed: u64,
        /// Bytes that the file has.
        bytes: u64,
    },
    /// The operating system refused to describe the file.
    #[error("the system refused: {0}")]
    System(String),
}

/// No block could be loaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoanError {
    /// The message exceeds the publisher's largest block: open the publisher with a larger block size.
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
    /// No block came free before the deadline.
    #[error("no block came free before the deadline")]
    Deadline,
    /// In a guest or a library: the host refuses the message.
    #[error("the host does not publish: {0}")]
    Refused(&'static str),
}

/// Only a publisher that was opened as a [relay](crate::WriterOptions::relay) can report losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only a publisher that was opened as a relay can report losses")]
pub struct NoRelay;

/// A subscriber could not join a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The subscriber reads a different layout than the publisher writes.
    #[error("the channel carries {channel}, the subscriber reads {subscriber}")]
    SchemaMismatch {
        /// The publisher's schema.
        channel: Schema,
        /// The subscriber's schema.
        subscriber: Schema,
    },
    /// All cursors are taken: open the publisher with a larger `max_subscribers`.
    #[error(
        "the channel already has {limit} subscribers: open the publisher with a larger `max_subscribers`"
    )]
    Full {
        /// Largest number of subscribers.
        limit: u32,
    },
    /// The publisher was dropped, and its memory released.
    #[error("the publisher has ended")]
    Ended,
    /// The process was forked after the channel was created: the messages are not in this process.
    #[error("the channel belongs to the process that was forked: open one in this process")]
    Forked,
    /// The system refused a process-wide barrier (`membarrier`), which happens when it is short of memory:
    /// try again.
    #[error("the system refused a process-wide memory barrier (membarrier): try again")]
    Barrier,
    /// The publisher is in another process, and does not wait for subscribers of this one: choose an overflow
    /// policy that may lose messages.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    #[error(
        "the publisher is in another process and does not wait for subscribers of this one: \
         choose an overflow policy that may lose messages"
    )]
    MayNotBlock,
}

/// Nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// No message yet.
    #[error("no message yet")]
    Empty,
    /// The publisher was dropped, and everything it published was received.
    #[error("the channel has ended")]
    Ended,
    /// The process was forked after the subscriber joined: subscribe again in the child.
    #[error("the subscriber belongs to the process that was forked: open one in this process")]
    Forked,
    /// The publisher overtook this subscriber, and this many messages were lost. The next receive continues
    /// after them.
    #[error("{0} messages were lost")]
    Lost(u64),
    /// The subscriber keeps as many samples of this publisher as it may. It receives nothing until it has
    /// dropped some: see [`ReaderOptions::samples`](crate::ReaderOptions::samples).
    #[error("{kept} samples of one publisher are kept, and no more may be: drop some, or allow more")]
    TooManySamples {
        /// How many samples it keeps.
        kept: u32,
    },
    /// In a guest or a library: the host refuses to deliver.
    #[error("the host does not deliver: {0}")]
    Refused(&'static str),
    /// The publisher, in another process, is broken: it has written an impossible descriptor or counter. The
    /// channel counts as ended for this subscriber.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    #[error(
        "the publisher, in another process, is broken: it has written an impossible descriptor or counter"
    )]
    Corrupt,
}

/// A topic could not be opened for publishing or subscribing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name of a topic has 1 to 255 bytes and only visible characters: see
    /// [`text::is_invisible`](crate::text::is_invisible).
    #[error(
        "{0:?} cannot be the name of a topic, which has 1 to 255 bytes and no control or format characters"
    )]
    BadName(String),
    /// The topic exists with a different schema.
    #[error("topic {topic:?} carries {}, asked for {asked}", carried(existing.as_ref()))]
    SchemaMismatch {
        /// Name of the topic.
        topic: String,
        /// The topic's schema. `None` in a guest, which does not learn it.
        existing: Option<Schema>,
        /// The schema that this participant asked for.
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
    /// The publisher's channel could not be created.
    #[error("topic {topic:?}: {reason}")]
    Channel {
        /// Name of the topic.
        topic: String,
        /// Why.
        reason: ChannelError,
    },
    /// The topic was declared unsealed: its messages can change while they are read. Only guests may
    /// subscribe to it, because their sandbox contains the consequences.
    #[error("topic {topic:?} is unsealed: only guests may subscribe to it")]
    Unsealed {
        /// Name of the topic.
        topic: String,
    },
    /// The topic already exists and is sealed: declare it unsealed before its first participant joins.
    #[error("topic {topic:?} exists and is sealed: declare it unsealed before its first participant joins")]
    Sealed {
        /// Name of the topic.
        topic: String,
    },
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Closed,
    /// The process was forked after the broker was created, so the topics belong to the parent: create
    /// another broker in the child.
    #[error("the broker belongs to the process that was forked: make one in this process")]
    Forked,
    /// The host refused for another reason, which its message states.
    #[error("the host refused: {0}")]
    Refused(String),
    /// Another process of the topic, or the one that serves it, did not answer in time: it is stopped or
    /// overloaded. Try again, or end it.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    #[error("topic {topic:?}: another process did not answer in time")]
    Unresponsive {
        /// Name of the topic.
        topic: String,
    },
    /// The connection to the process that serves topics is lost. Open publishers and subscribers continue.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    #[error("the connection to the process that serves topics is lost, so nobody can join")]
    Disconnected,
}

/// Whether a character is not permitted in the name of a topic. A tab is not.
fn is_name_breaking(c: char) -> bool {
    c == '\t' || crate::text::is_invisible(c)
}

/// Longest name of a topic in bytes.
const MAX_NAME: usize = 255;

impl OpenError {
    /// Checks the name of a topic.
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
