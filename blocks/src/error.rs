//! What can go wrong, one enum per concern.

use crate::schema::Schema;

/// A channel could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// A number in the configuration is outside its range; the text names it and the range.
    #[error("bad channel configuration: {0}")]
    Config(String),
    /// The operating system refused memory, address space or a file descriptor.
    #[error("the system refused memory for a channel of {bytes} bytes: {reason}")]
    System {
        /// Size of the arena asked for.
        bytes: u64,
        /// The system's own words.
        reason: String,
    },
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
    /// Waited until the deadline and no block came free.
    #[error("no block came free before the deadline")]
    Deadline,
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
    #[error("the channel has its {limit} subscribers already")]
    Full {
        /// Most subscribers at a time.
        limit: u32,
    },
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
    /// The publisher overtook this subscriber: that many messages were lost; the next receive goes on after
    /// them.
    #[error("{0} messages were lost")]
    Lost(u64),
}
