//! [`PublisherOptions`]: the blocks, history and limits of a publisher.

use blockcast_blocks::{Reuse, SizeClass, Timestamps, WriterOptions};

/// The size and number of a publisher's blocks, its history and its limits.
///
/// In a guest, only the block size, the number of blocks and the history have an effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherOptions {
    writer: WriterOptions,
    name: &'static str,
}

impl PublisherOptions {
    /// The default options: 64 blocks of 64 KiB, no history, up to 128 subscribers, and coarse timestamps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Options for a value of which only the latest matters: 8 blocks of `bytes`, and a history of 1, so that
    /// late subscribers receive the value immediately.
    #[must_use]
    pub fn latest(bytes: usize) -> Self {
        Self::new().block_size(bytes).blocks(8).history(1)
    }

    /// Sets the size of a block, and so the maximum length of a message, in bytes: 1 to 2 GiB minus 1.
    /// Rounded up to a multiple of 64.
    #[must_use]
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.writer.block_size = bytes;
        self
    }

    /// Sets the number of blocks: 2 to 2^20. A message occupies a block until every subscriber has released
    /// it.
    #[must_use]
    pub fn blocks(mut self, count: u32) -> Self {
        self.writer.blocks = count;
        self
    }

    /// Sets the number of blocks to which the pool grows, by doubling, when all are in use. Reserves address
    /// space for all of them. A block takes memory when it is first written.
    #[must_use]
    pub fn max_blocks(mut self, count: u32) -> Self {
        self.writer.max_blocks = Some(count);
        self
    }

    /// Adds blocks of a larger size, for messages that do not fit into the smaller ones. Add sizes in
    /// ascending order. A loan can request a number of bytes, and a value that does not fit into its block
    /// when it is sent moves to a larger one.
    #[must_use]
    pub fn larger_blocks(mut self, class: SizeClass) -> Self {
        self.writer.larger.push(class);
        self
    }

    /// Sets the number of messages kept for late subscribers: 0 up to the number of blocks minus 2. Each
    /// subscriber chooses with how many of them it starts.
    #[must_use]
    pub fn history(mut self, messages: u32) -> Self {
        self.writer.history = messages;
        self
    }

    /// Sets the maximum number of simultaneous subscribers: 1 to 65,536, for 128 bytes each. If the topic has
    /// more when the publisher joins, all of them are admitted.
    #[must_use]
    pub fn max_subscribers(mut self, count: u32) -> Self {
        self.writer.max_subscribers = count;
        self
    }

    /// Sets whether messages have timestamps, and how precise they are.
    #[must_use]
    pub fn timestamps(mut self, timestamps: Timestamps) -> Self {
        self.writer.timestamps = timestamps;
        self
    }

    /// Sets which free block is loaned next.
    #[must_use]
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.writer.reuse = reuse;
        self
    }

    /// Sets whether opening the publisher touches all its memory, instead of its first use. Takes about half
    /// a second per GiB. The memory is in large pages (2 MiB if pages have 4 KiB) as far as it fills them and
    /// the system has some, which helps large messages and many guests.
    #[must_use]
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.writer.prefault = prefault;
        self
    }

    /// Sets whether the publisher is a relay, which passes on messages from elsewhere, such as another
    /// machine. It can [report](crate::Publisher::report_lost) that messages were lost on the way, and
    /// subscribers that [skip relays](blockcast_blocks::ReaderOptions::skip_relays) do not join it. Costs
    /// publisher and subscribers a few nanoseconds per message.
    ///
    /// Has no effect in guests and native libraries.
    #[must_use]
    pub fn relay(mut self, relay: bool) -> Self {
        self.writer.relay = relay;
        self
    }

    /// Sets the publisher's name in statistics. The default is the name of its component, if it has one.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// The [name](Self::name), or an empty string if none was set.
    #[must_use]
    pub fn get_name(&self) -> &'static str {
        self.name
    }

    /// The [block size](Self::block_size) in bytes.
    #[must_use]
    pub fn get_block_size(&self) -> usize {
        self.writer.block_size
    }

    /// The [number of blocks](Self::blocks).
    #[must_use]
    pub fn get_blocks(&self) -> u32 {
        self.writer.blocks
    }

    /// The [number of messages kept](Self::history) for late subscribers.
    #[must_use]
    pub fn get_history(&self) -> u32 {
        self.writer.history
    }

    /// The options of the underlying writer.
    #[must_use]
    pub fn writer(&self) -> &WriterOptions {
        &self.writer
    }

    /// Converts the options to the configuration of a channel.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    #[must_use]
    pub fn channel(
        &self,
        publisher: blockcast_blocks::PublisherId,
        schema: blockcast_blocks::Schema,
    ) -> blockcast_blocks::ChannelConfig {
        let config = blockcast_blocks::ChannelConfig::new(publisher, schema);
        blockcast_blocks::ChannelConfig { options: self.writer.clone(), ..config }
    }
}
