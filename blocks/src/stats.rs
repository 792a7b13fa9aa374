//! Counters as plain values.

use crate::units::{PublisherId, Sequence};

/// What happened on one channel so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// The publisher's number.
    pub publisher: PublisherId,
    /// What the publisher is called; may be empty.
    pub name: String,
    /// Messages published.
    pub published: u64,
    /// Bytes published.
    pub bytes: u64,
    /// Blocks in the pool now.
    pub blocks: u32,
    /// Blocks that the pool may grow to.
    pub max_blocks: u32,
    /// Blocks that are free or loaned.
    pub free: u32,
    /// Blocks on loans that were put aside (those of guests are, while they are filled) or forgotten, as of the latest
    /// one that was put aside or taken up again, and the latest that found no block.
    pub loaned: u32,
    /// Blocks that reclamation has met and left: somebody claims or holds them. As of the latest reclamation.
    pub limbo: u32,
    /// Blocks with a counted hold: owned samples that outlived their subscriber's window.
    pub held: u32,
    /// Counted holds on these blocks, all together.
    pub holds: u64,
    /// The oldest message that somebody claims or holds, as of the latest reclamation.
    pub oldest_kept: Option<Sequence>,
    /// Loans that found no block.
    pub exhausted: u64,
    /// How often the publisher was woken.
    pub wakes: u64,
    /// Whether the publisher is gone.
    pub closed: bool,
    /// The subscribers that are joined now.
    pub subscribers: Vec<ReaderStats>,
    /// Who keeps samples, of subscribers that are gone too.
    pub holders: Vec<HolderStats>,
}

/// The owned samples of one subscriber of one channel that are alive, or were forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HolderStats {
    /// What the subscriber is or was called; may be empty.
    pub name: String,
    /// Messages that they keep, and so blocks.
    pub messages: u32,
    /// The oldest of these messages.
    pub oldest: Sequence,
}

/// What happened to one subscriber of one channel so far. Updated when it lets go of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReaderStats {
    /// What the subscriber is called; may be empty. One that was forgotten without being dropped stays in the
    /// list under its name.
    pub name: String,
    /// Messages taken.
    pub received: u64,
    /// Bytes of the messages taken, but of those that were taken by reference one by one and forgotten.
    pub bytes: u64,
    /// Messages lost by the subscriber's overflow policy.
    pub lost: u64,
    /// Owned samples that became counted holds.
    pub counted_holds: u64,
    /// Messages published since the oldest that the subscriber may still be attached to.
    pub behind: u64,
    /// How often the subscriber was woken, for whatever it waited.
    pub wakes: u64,
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
