//! [`ChannelConfig`]: how to create a channel.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::engine::segment::layout::Layout;
use crate::engine::segment::preamble::Preamble;
use crate::engine::wake::signal::Signal;
use crate::error::ChannelError;
use crate::options::{SizeClass, WriterOptions};
use crate::payload::schema::Schema;
use crate::sys;
use crate::units::PublisherId;

/// Bytes that the publisher keeps privately for each block: an entry among the spare blocks and one in limbo.
const PRIVATE_BYTES: u64 = 20;

/// Largest number of subscribers at a time.
pub(super) const MAX_SUBSCRIBERS: u32 = 65_536;

/// How to create a channel. Its [options](WriterOptions) can be read and set through it, as in `config.blocks
/// = 8`.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// The publisher's number.
    pub publisher: PublisherId,
    /// The number by which guests and libraries know the publisher. It distinguishes the publishers that they
    /// receive from.
    pub component_number: u32,
    /// Layout of the messages.
    pub schema: Schema,
    /// Blocks, history, subscribers and the rest.
    pub options: WriterOptions,
}

impl Deref for ChannelConfig {
    type Target = WriterOptions;

    fn deref(&self) -> &WriterOptions {
        &self.options
    }
}

impl DerefMut for ChannelConfig {
    fn deref_mut(&mut self) -> &mut WriterOptions {
        &mut self.options
    }
}

impl ChannelConfig {
    /// A channel with the default options. Components know its publisher by the lower 32 bits of its number.
    #[must_use]
    pub fn new(publisher: PublisherId, schema: Schema) -> Self {
        Self { publisher, component_number: publisher.short(), schema, options: WriterOptions::default() }
    }

    /// The largest number of bytes that the channel takes: blocks, descriptors, cursors, and what the
    /// publisher keeps for each block, in whole pages. A thousand small blocks take far more than their
    /// payload.
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

    /// Describes the channel's memory.
    pub(super) fn preamble(&self, layout: &Layout) -> Preamble {
        Preamble::new(layout, self.classes(), self.max_subscribers, self.relay)
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

    /// Where the blocks lie, if all numbers are within their ranges.
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
