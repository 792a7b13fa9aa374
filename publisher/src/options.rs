//! What a publisher needs.

/// Size and number of a publisher's blocks, and what it keeps for late joiners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherOptions {
    block_size: usize,
    blocks: u32,
    history: u32,
    max_subscribers: u32,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self { block_size: 64 << 10, blocks: 64, history: 0, max_subscribers: 128 }
    }
}

impl PublisherOptions {
    /// 64 blocks of 64 KiB, no history, up to 128 subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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

    /// Messages kept for subscribers that join late: 0 up to the number of blocks less 2.
    #[must_use]
    pub fn history(mut self, messages: u32) -> Self {
        self.history = messages;
        self
    }

    /// Subscribers at a time: 1 to 65,536. 128 bytes each.
    #[must_use]
    pub fn max_subscribers(mut self, count: u32) -> Self {
        self.max_subscribers = count;
        self
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

    /// What [`max_subscribers`](Self::max_subscribers) was set to.
    #[must_use]
    pub fn get_max_subscribers(&self) -> u32 {
        self.max_subscribers
    }
}
