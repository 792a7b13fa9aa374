//! Counters as plain values.

use crate::units::PublisherId;

/// What happened on one channel so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// The publisher's number.
    pub publisher: PublisherId,
    /// Messages published.
    pub published: u64,
    /// Bytes published.
    pub bytes: u64,
    /// Blocks in the pool.
    pub blocks: u32,
    /// Blocks with a counted hold: owned samples that outlived their subscriber's window.
    pub held: u32,
    /// Whether the publisher is gone.
    pub closed: bool,
    /// The subscribers that are joined now.
    pub subscribers: Vec<ReaderStats>,
}

/// What happened to one subscriber of one channel so far. Updated when it lets go of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReaderStats {
    /// Messages taken.
    pub received: u64,
    /// Bytes of the messages taken.
    pub bytes: u64,
    /// Messages lost because the publisher overtook.
    pub lost: u64,
    /// Owned samples that became counted holds.
    pub counted_holds: u64,
    /// Messages published since the oldest that the subscriber may still be attached to.
    pub behind: u64,
}

/// State of a publisher's pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Blocks in the pool.
    pub blocks: u32,
    /// Blocks ready to be loaned without looking at the subscribers.
    pub free: u32,
    /// Blocks let go of, but still attached to or held by somebody.
    pub limbo: u32,
}
