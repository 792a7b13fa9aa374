//! How a channel is made: [`ChannelConfig`].

use std::sync::Arc;

use crate::engine::segment::layout::Layout;
use crate::engine::segment::preamble::Preamble;
use crate::engine::wake::signal::Signal;
use crate::error::ChannelError;
#[cfg(doc)]
use crate::options::ReaderOptions;
use crate::options::{Reuse, SizeClass, Timestamps};
use crate::payload::schema::Schema;
use crate::sys;
use crate::units::PublisherId;

/// Bytes that the publisher keeps for each block on its own: a place among the spare blocks and one in limbo.
const PRIVATE_BYTES: u64 = 20;

/// Largest number of subscribers at a time.
pub(super) const MAX_SUBSCRIBERS: u32 = 65_536;

/// How a channel is made. Sizes are in bytes, the rest counts.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// The publisher's number.
    pub publisher: PublisherId,
    /// Layout of the messages.
    pub schema: Schema,
    /// Bytes of a block: 1 to 2 GiB less one, rounded up to a multiple of
    /// [`BLOCK_ALIGNMENT`](crate::BLOCK_ALIGNMENT).
    pub block_size: usize,
    /// Blocks in the pool: 2 to 2^20.
    pub blocks: u32,
    /// Blocks that the pool may grow to when all are in use; `None`: it does not grow.
    pub max_blocks: Option<u32>,
    /// Further blocks of larger sizes, ascending. A loan gets the smallest block that fits and is free.
    pub larger: Vec<SizeClass>,
    /// Messages kept for subscribers that join late: 0 up to 2 less than there are blocks of each size. A subscriber starts with
    /// as many of them as it [asks for](ReaderOptions::history), and never with more.
    pub history: u32,
    /// Subscribers at a time: 1 to 65,536. 128 bytes each.
    pub max_subscribers: u32,
    /// Whether messages carry the time.
    pub timestamps: Timestamps,
    /// Which block is loaned next.
    pub reuse: Reuse,
    /// Touch every page now rather than at its first use, and put them into [large ones](crate::Arena) where possible.
    pub prefault: bool,
}

impl ChannelConfig {
    /// 64 blocks of 64 KiB, no history, 128 subscribers, coarse time.
    #[must_use]
    pub fn new(publisher: PublisherId, schema: Schema) -> Self {
        Self {
            publisher,
            schema,
            block_size: 64 << 10,
            blocks: 64,
            max_blocks: None,
            larger: Vec::new(),
            history: 0,
            max_subscribers: 128,
            timestamps: Timestamps::default(),
            reuse: Reuse::default(),
            prefault: false,
        }
    }

    /// Bytes of memory that the channel takes at most: blocks, descriptors, cursors and what the publisher keeps for each
    /// block, in whole pages. A thousand small blocks take far more than their payload.
    ///
    /// # Errors
    /// [`ChannelError::Config`] for a number out of range.
    pub fn memory(&self) -> Result<u64, ChannelError> {
        let layout = self.layout()?;
        let impossible = || ChannelError::Config("the channel exceeds the address space".to_owned());
        let arena = sys::whole_pages(layout.len).ok_or_else(impossible)? as u64;
        let control = self.preamble(&layout).control_bytes().ok_or_else(impossible)?;
        let cursors = u64::from(self.max_subscribers) * size_of::<Option<Arc<Signal>>>() as u64;
        Ok(arena + control + u64::from(layout.blocks) * PRIVATE_BYTES + cursors)
    }

    /// What the channel's memory says about itself.
    pub(super) fn preamble(&self, layout: &Layout) -> Preamble {
        Preamble::new(layout, self.classes(), self.max_subscribers)
    }

    /// The sizes of blocks, ascending.
    pub(crate) fn classes(&self) -> Vec<SizeClass> {
        let first = SizeClass {
            block_size: self.block_size,
            blocks: self.blocks,
            max_blocks: self.max_blocks.unwrap_or(self.blocks),
        };
        std::iter::once(first).chain(self.larger.iter().copied()).collect()
    }

    /// Where the blocks lie, if all numbers are in range.
    pub(super) fn layout(&self) -> Result<Layout, ChannelError> {
        let classes = self.classes();
        let layout = Layout::new(&classes)?;
        let most = classes.iter().map(|class| class.max_blocks - 2).min().unwrap_or(0);
        if self.history > most {
            return Err(ChannelError::Config(format!(
                "history is {}, must be at most {most} with these blocks",
                self.history
            )));
        }
        if !(1..=MAX_SUBSCRIBERS).contains(&self.max_subscribers) {
            return Err(ChannelError::Config(format!(
                "max_subscribers is {}, must be 1 to {MAX_SUBSCRIBERS}",
                self.max_subscribers
            )));
        }
        Ok(layout)
    }
}
