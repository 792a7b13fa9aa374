//! Statistics of channels, publishers and subscribers, as plain values.

use crate::units::{PublisherId, Sequence};

/// Statistics of one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// The publisher's number.
    pub publisher: PublisherId,
    /// The publisher's name; may be empty.
    pub name: String,
    /// Messages published.
    pub published: u64,
    /// Bytes published.
    pub bytes: u64,
    /// Current number of blocks in the pool.
    pub blocks: u32,
    /// Number of blocks that the pool may grow to.
    pub max_blocks: u32,
    /// Blocks that are free or loaned.
    pub free: u32,
    /// Blocks on loans that were suspended or forgotten. Guests suspend loans while they fill them. As of the
    /// latest loan that was suspended or resumed, or that found no block.
    pub loaned: u32,
    /// Blocks that reclamation left alone because somebody claims or holds them. As of the latest
    /// reclamation.
    pub limbo: u32,
    /// Blocks with a counted hold: owned samples that outlived their subscriber's window.
    pub held: u32,
    /// Counted holds on all of these blocks.
    pub holds: u64,
    /// The oldest message that somebody claims or holds, as of the latest reclamation.
    pub oldest_kept: Option<Sequence>,
    /// Loans that found no block.
    pub exhausted: u64,
    /// How often the publisher was woken.
    pub wakes: u64,
    /// Whether the publisher is a [relay](crate::WriterOptions::relay).
    pub relay: bool,
    /// Messages that were lost before they reached the publisher, if it is a relay.
    pub missing: u64,
    /// Whether the publisher was dropped.
    pub closed: bool,
    /// The joined subscribers.
    pub subscribers: Vec<ReaderStats>,
    /// The current and former subscribers that keep samples.
    pub holders: Vec<HolderStats>,
}

/// The owned samples of one subscriber of one channel that are alive or were forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HolderStats {
    /// The subscriber's name; may be empty.
    pub name: String,
    /// Messages that they keep. Each keeps a block.
    pub messages: u32,
    /// The oldest of these messages.
    pub oldest: Sequence,
}

/// Statistics of one subscriber of one channel. Updated when it releases messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReaderStats {
    /// The subscriber's name; may be empty. A subscriber that was forgotten without being dropped stays in
    /// the list.
    pub name: String,
    /// Messages received.
    pub received: u64,
    /// Bytes of the messages received, except those that were received one by one by reference and forgotten.
    pub bytes: u64,
    /// Messages lost by the subscriber's overflow policy, or before they reached the publisher, if it is a
    /// relay.
    pub lost: u64,
    /// Owned samples that became counted holds.
    pub counted_holds: u64,
    /// Messages published since the oldest that the subscriber may still be attached to.
    pub behind: u64,
    /// How often the subscriber was woken, for any reason.
    pub wakes: u64,
}

/// The state of a publisher's pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Blocks in the pool.
    pub blocks: u32,
    /// Blocks that can be loaned without checking the subscribers.
    pub free: u32,
    /// Blocks that were given up, but to which somebody is still attached, or which somebody holds.
    pub limbo: u32,
}
