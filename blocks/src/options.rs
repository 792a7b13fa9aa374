//! The options of publishers and subscribers.

/// The size and number of a publisher's blocks, and its history for late joiners.
///
/// The publishers of the engine, of native libraries and of guests all use this one struct. In a guest, only
/// `block_size`, `blocks` and `history` apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Bytes of a block: 1 to 2 GiB less one, rounded up to a multiple of
    /// [`BLOCK_ALIGNMENT`](crate::BLOCK_ALIGNMENT).
    pub block_size: usize,
    /// Blocks in the pool: 2 to 2^20.
    pub blocks: u32,
    /// Blocks that the pool may grow to when all are in use. `None`: it does not grow.
    pub max_blocks: Option<u32>,
    /// Further blocks of larger sizes, in ascending order. A loan gets the smallest free block that fits.
    pub larger: Vec<SizeClass>,
    /// Messages kept for subscribers that join late: at most two fewer than there are blocks of each size. A
    /// subscriber starts with as many of them as it [asks for](ReaderOptions::history), and never with more.
    pub history: u32,
    /// Subscribers at a time: 1 to 65,536. 128 bytes each.
    pub max_subscribers: u32,
    /// Whether messages carry the time.
    pub timestamps: Timestamps,
    /// Which block is loaned next.
    pub reuse: Reuse,
    /// Touch every page when the publisher opens rather than at its first use, and use large pages if
    /// possible.
    pub prefault: bool,
    /// The publisher is a *relay*: its messages come from elsewhere, such as another machine. It can report
    /// that messages were lost on the way (`Writer::report_lost`), which its subscribers learn like losses of
    /// their own. Other relays [skip](ReaderOptions::skip_relays) it. 8 bytes and a few nanoseconds per
    /// message, here and in every subscriber.
    pub relay: bool,
}

impl Default for WriterOptions {
    /// 64 blocks of 64 KiB, no history, 128 subscribers, coarse time.
    fn default() -> Self {
        Self {
            block_size: 64 << 10,
            blocks: 64,
            max_blocks: None,
            larger: Vec::new(),
            history: 0,
            max_subscribers: 128,
            timestamps: Timestamps::default(),
            reuse: Reuse::default(),
            prefault: false,
            relay: false,
        }
    }
}

/// The policy for a subscriber that is so slow that the publisher runs out of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The publisher waits, or gets [`Exhausted`](crate::LoanError::Exhausted). Nothing is lost.
    #[default]
    Block,
    /// The publisher goes on. The subscriber loses its oldest messages and learns how many. The samples that
    /// it may keep are [limited](ReaderOptions::samples), so that it never stops the publisher.
    DropOldest,
    /// The publisher goes on. The subscriber keeps the oldest messages, up to its depth. Once it has that
    /// many, everything newer is lost until it has received all of them. Then it learns how many were lost,
    /// and continues with the next message that is published. The kept messages take blocks: all such
    /// subscribers together take [at most half](ReaderOptions::depth).
    DropNewest,
}

/// How a subscriber joins a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderOptions {
    /// The policy if the subscriber is slow.
    pub overflow: Overflow,
    /// The largest number of messages kept for the subscriber. `DropOldest`: `None` means as many as the
    /// publisher has blocks.
    ///
    /// `DropNewest`: at least 1. All such subscribers together keep half of the publisher's blocks beyond the
    /// history. This counts the initial blocks of the size with the fewest blocks. Each subscriber gets what
    /// it asks for if that much is left when it joins. `None` means half of what is left: a quarter of the
    /// blocks for a single one. It returns its share when it is dropped. So the publisher goes on, whatever
    /// the subscribers do, if it has more than 12 such blocks for each subscriber that may lose messages.
    ///
    /// `Block`: has no effect. The publisher's blocks are the limit.
    pub depth: Option<u32>,
    /// The number of earlier messages to start with, or the channel's whole
    /// [history](crate::WriterOptions::history) if that is shorter.
    pub history: u64,
    /// Samples that the subscriber may keep at a time. With that many of one publisher, receiving from it
    /// fails with [`ReceiveError::TooManySamples`](crate::ReceiveError::TooManySamples) until some are
    /// dropped.
    ///
    /// `None`, the default, with [`Overflow::Block`]: any number, since the publisher waits for this
    /// subscriber anyway.
    ///
    /// `None` with another policy: as many as do not stop the publisher. Let *b* be the number of blocks
    /// beyond the history, of the size with the fewest blocks. All such subscribers together may keep *b* / 4
    /// samples. In addition, each may keep the message received last and, if *b* is 4 or more, one before it.
    /// A batch has at most one message plus an equal share of *b* / 8. So the publisher goes on if *b* is at
    /// least 4 for each of these subscribers, or 2 for a single one. If any of them drops the newest, its
    /// [depth](Self::depth) takes blocks too.
    pub samples: Option<u32>,
    /// Whether the subscriber maps the [arena](crate::Arena) elsewhere, as a host maps it into guests. Keeps
    /// the file of the arena open.
    pub maps: bool,
    /// Whether a subscription leaves out the publishers that are [relays](WriterOptions::relay). Relays
    /// subscribe with this, so that no message goes round in a circle. Has no effect if a subscriber joins a
    /// channel directly.
    pub skip_relays: bool,
}

/// Whether messages carry the time of publishing, and how exact it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// Messages carry no time.
    Off,
    /// The kernel's tick, 1 to 10 ms; about 5 ns per message.
    #[default]
    Coarse,
    /// Nanoseconds; about 26 ns per message.
    Precise,
}

/// Which free block is loaned next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// [`Hottest`](Self::Hottest) for blocks of 32 KiB and more, [`Oldest`](Self::Oldest) below.
    #[default]
    BySize,
    /// The block that was freed first. Blocks come round in order, descriptors need not be rewritten, and
    /// reclamation is rare.
    Oldest,
    /// A block that was freed last: its bytes are still in the cache. Reclaims once for each 4 KiB of blocks
    /// that are loaned; if blocks are larger, before every loan.
    Hottest,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Bytes of a block: 1 to 2 GiB less one, rounded up to a multiple of
    /// [`BLOCK_ALIGNMENT`](crate::BLOCK_ALIGNMENT).
    pub block_size: usize,
    /// Initial number of blocks: at least 2.
    pub blocks: u32,
    /// Largest number of blocks: at least `blocks`. Blocks are added when all are in use.
    pub max_blocks: u32,
}
