//! What a publisher needs.

use blockcast_blocks::{Reuse, SizeClass, Timestamps};

/// Size and number of a publisher's blocks, and what it keeps for late joiners.
///
/// In a guest only block size, number of blocks and history apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherOptions {
    block_size: usize,
    blocks: u32,
    max_blocks: Option<u32>,
    larger: Vec<SizeClass>,
    history: u32,
    max_subscribers: u32,
    timestamps: Timestamps,
    reuse: Reuse,
    prefault: bool,
    name: &'static str,
}

impl Default for PublisherOptions {
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
            name: "",
        }
    }
}

impl PublisherOptions {
    /// 64 blocks of 64 KiB, no history, up to 128 subscribers, coarse timestamps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks for a value of which only the latest matters: 8 blocks of `bytes`, and a history of 1, so that
    /// a subscriber that joins late gets the value at once.
    #[must_use]
    pub fn latest(bytes: usize) -> Self {
        Self::new().block_size(bytes).blocks(8).history(1)
    }

    /// Longest message in bytes: 1 to 2 GiB less one. Rounded up to a multiple of 64.
    #[must_use]
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.block_size = bytes;
        self
    }

    /// Number of blocks: 2 to 2^20. A message occupies one until every subscriber has let go of it.
    #[must_use]
    pub fn blocks(mut self, count: u32) -> Self {
        self.blocks = count;
        self
    }

    /// Number of blocks that the pool may grow to, by doubling, when all are in use. Address space is
    /// reserved for all of them; memory is committed when a block is first written.
    #[must_use]
    pub fn max_blocks(mut self, count: u32) -> Self {
        self.max_blocks = Some(count);
        self
    }

    /// Adds blocks of a larger size, for messages that do not fit the smaller ones. Sizes are given in
    /// ascending order; a loan says how many bytes it wants, and a value that does not fit its block when it is sent
    /// goes into a larger one.
    #[must_use]
    pub fn larger_blocks(mut self, class: SizeClass) -> Self {
        self.larger.push(class);
        self
    }

    /// Messages kept for subscribers that join late: 0 up to the number of blocks less 2. A subscriber starts with as many of
    /// them as it asks for, and never with more.
    #[must_use]
    pub fn history(mut self, messages: u32) -> Self {
        self.history = messages;
        self
    }

    /// Subscribers at a time: 1 to 65,536. 128 bytes each. Those that the topic has when the publisher joins are admitted in
    /// any case.
    #[must_use]
    pub fn max_subscribers(mut self, count: u32) -> Self {
        self.max_subscribers = count;
        self
    }

    /// Whether and how exactly messages carry the time.
    #[must_use]
    pub fn timestamps(mut self, timestamps: Timestamps) -> Self {
        self.timestamps = timestamps;
        self
    }

    /// Which free block is loaned next.
    #[must_use]
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// Touches all memory when the publisher is opened rather than when it is first used, and puts it into large pages (2 MiB
    /// where pages have 4 KiB) as far as it fills such and the system has them: for large messages, and many guests.
    /// About half a second per GiB.
    #[must_use]
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// What statistics call it. Otherwise it goes by the name of its component, if it has one.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// What [`name`](Self::name) was set to; empty if it was not.
    #[must_use]
    pub fn get_name(&self) -> &'static str {
        self.name
    }

    /// What [`block_size`](Self::block_size) was set to.
    #[must_use]
    pub fn get_block_size(&self) -> usize {
        self.block_size
    }

    /// What [`blocks`](Self::blocks) was set to.
    #[must_use]
    pub fn get_blocks(&self) -> u32 {
        self.blocks
    }

    /// What [`history`](Self::history) was set to.
    #[must_use]
    pub fn get_history(&self) -> u32 {
        self.history
    }

    /// What these options ask of a guest's host.
    #[cfg(target_family = "wasm")]
    #[must_use]
    pub fn writer(&self) -> blockcast_blocks::client::WriterOptions {
        blockcast_blocks::client::WriterOptions {
            block_size: u32::try_from(self.block_size).unwrap_or(u32::MAX),
            blocks: self.blocks,
            history: self.history,
        }
    }

    /// What these options ask of a library's host.
    #[cfg(all(blockcast_library, not(target_family = "wasm")))]
    #[must_use]
    pub fn writer(&self) -> blockcast_blocks::client::WriterOptions {
        blockcast_blocks::client::WriterOptions {
            block_size: u32::try_from(self.block_size).unwrap_or(u32::MAX),
            blocks: self.blocks,
            max_blocks: self.max_blocks,
            larger: self.larger.clone(),
            history: self.history,
            max_subscribers: self.max_subscribers,
            timestamps: self.timestamps,
            reuse: self.reuse,
            prefault: self.prefault,
            name: self.name,
        }
    }

    /// The channel that these options ask for.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    #[must_use]
    pub fn channel(
        &self,
        publisher: blockcast_blocks::PublisherId,
        schema: blockcast_blocks::Schema,
    ) -> blockcast_blocks::ChannelConfig {
        blockcast_blocks::ChannelConfig {
            publisher,
            schema,
            block_size: self.block_size,
            blocks: self.blocks,
            max_blocks: self.max_blocks,
            larger: self.larger.clone(),
            history: self.history,
            max_subscribers: self.max_subscribers,
            timestamps: self.timestamps,
            reuse: self.reuse,
            prefault: self.prefault,
        }
    }
}
