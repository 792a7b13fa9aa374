//! What publishers and subscribers can choose.

/// What happens when the publisher runs out of blocks because this subscriber is slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The publisher waits, or gets [`Exhausted`](crate::LoanError::Exhausted). Nothing is lost.
    #[default]
    Block,
    /// The publisher goes on; the subscriber loses its oldest messages and is told how many. What it may keep is
    /// [limited](ReaderOptions::samples), so that it never stops the publisher.
    DropOldest,
    /// The publisher goes on; the subscriber keeps the oldest messages, up to its depth. Once it has that
    /// many, everything newer is lost until it has received all of them; then it is told how many were lost
    /// and goes on with the next one to be published. What is kept for it takes blocks, of which all such subscribers
    /// together take [half at most](ReaderOptions::depth).
    DropNewest,
}

/// How a subscriber joins a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderOptions {
    /// What happens when it is slow.
    pub overflow: Overflow,
    /// Messages kept for it at most. `DropOldest`: as many as the publisher has blocks, if `None`.
    ///
    /// `DropNewest`: at least 1. All such subscribers together keep half of the publisher's blocks beyond the history, counted at the
    /// start and of the size of which there are fewest. Each gets as much as it asks for if that is left when it joins; if `None`,
    /// half of what is left: a quarter of the blocks for a single one. It gives that back when it is dropped. So the publisher goes
    /// on as long as it has more than 12 such blocks for each subscriber that may lose messages, whatever they do.
    ///
    /// `Block`: does not apply, the publisher's blocks are the limit.
    pub depth: Option<u32>,
    /// Earlier messages to start with: the last so many, or the channel's whole [history](crate::ChannelConfig::history) if that
    /// is shorter.
    pub history: u64,
    /// Samples that the subscriber may keep at a time. With that many of this publisher it receives nothing but
    /// [`ReceiveError::TooManySamples`](crate::ReceiveError::TooManySamples) until it has dropped some.
    ///
    /// `None`, the default, with [`Overflow::Block`]: as many as it likes, since its publisher waits for it anyway.
    ///
    /// `None` with another policy: as many as do not stop the publisher. With *b* blocks beyond the history, which is the
    /// number of the size of which there are fewest, all such subscribers together may keep *b* / 4 samples; beside these
    /// each may keep the message received last and, if *b* is 4 or more, one before it. A batch has at most one message and
    /// an equal share of *b* / 8. So the publisher goes on if *b* is at least 4 for each of these subscribers, or 2 for a
    /// single one; if any of them drops the newest, its [depth](Self::depth) takes blocks, too.
    pub samples: Option<u32>,
    /// Whether the subscriber maps the [arena](crate::Arena) elsewhere, as a host does into its guests: it keeps the file of
    /// the arena open.
    pub maps: bool,
}

/// Whether and how exactly messages are stamped with the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// No stamp.
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
    /// The one that was freed first. Blocks come round in order, descriptors need not be rewritten, and
    /// reclamation is rare.
    Oldest,
    /// The one that was freed last: its bytes are still in the cache. Reclaims before every loan.
    Hottest,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Bytes of a block: 1 to 2 GiB less one, rounded up to a multiple of [`BLOCK_ALIGNMENT`](crate::BLOCK_ALIGNMENT).
    pub block_size: usize,
    /// Blocks at the start: at least 2.
    pub blocks: u32,
    /// Blocks at most; more are added when all are in use. At least `blocks`.
    pub max_blocks: u32,
}
