//! A publisher of a native component: it builds every message in the block that subscribers read.

use std::fmt;
use std::sync::Arc;
use std::task::Context;

use blockcast_blocks::abi::{Error, PublisherStats, PublishingLine};
use blockcast_blocks::{ArenaPin, Signal, SuspendedLoan};

use crate::control::granted::TopicPort;
use crate::hosting::publishing::{Output, Trust};
use crate::hosting::topic_access::{Checks, PublisherPort, Validator};

/// A publisher of a native component.
pub(crate) struct LibraryPublisher {
    output: Output<TopicPort>,
    /// What it waits on, if it has a name of its own.
    signal: Option<Arc<Signal>>,
    unsealed: bool,
    /// Whether the component has its line, by which it publishes past this.
    lined: bool,
}

impl LibraryPublisher {
    pub(crate) fn new(outlet: TopicPort, signal: Option<Arc<Signal>>) -> Self {
        let unsealed = outlet.is_unsealed();
        Self { output: Output::new(outlet), signal, unsealed, lined: false }
    }

    /// The output, which knows what the line has published until now.
    #[inline]
    fn output(&mut self) -> &mut Output<TopicPort> {
        if self.lined {
            self.output.writer().adopt();
        }
        &mut self.output
    }

    /// The line, if there can be one. What the component publishes by it, it vouches for.
    pub(crate) fn line(&mut self) -> Option<PublishingLine> {
        let line = self.output.writer().line()?;
        if self.unsealed {
            return None;
        }
        self.lined = true;
        Some(line)
    }

    /// Keeps the memory of its blocks and of what its line leads to.
    pub(crate) fn pin(&mut self) -> ArenaPin {
        self.output.writer().channel().pin()
    }

    /// Lends up to `room` blocks for the line, at least one. Returns the first sequence that names one, and how many.
    pub(crate) fn lend_to_line(&mut self, room: u32) -> Result<(u64, u32), Error> {
        if !self.lined {
            return Err(Error::Denied);
        }
        // SAFETY: it is `lined`. So whatever of this publishes other blocks recalls first (`publish`, `publish_copy`), and all else
        // that uses the writer adopts first (`output`). The line stands still meanwhile: the component vouches for using its line
        // and calling this publisher one after the other, and for publishing by it only what it was lent last.
        unsafe { self.output.lend_to_line(room) }
    }

    /// Takes back what was lent for the line, as something else is published or lent.
    #[inline]
    pub(crate) fn recall_from_line(&mut self) {
        if self.lined {
            self.output.writer().recall_from_line();
        }
    }

    /// Blocks that wait at the line to be published.
    pub(crate) fn lent_to_line(&mut self) -> u32 {
        self.output().writer().lent_to_line()
    }

    /// Wakes whoever waits for what the line has published.
    pub(crate) fn wake_behind_line(&mut self) {
        self.output().writer().wake_behind_line();
    }

    /// The bytes of the block that `word` names, the next one of the line.
    pub(crate) fn on_line(&mut self, word: u64, len: u32) -> Result<*const u8, Error> {
        let output = self.output();
        let block = output.writer().take_from_line(word).ok_or(Error::InvalidHandle)?;
        let (offset, capacity) = (block.offset() as usize, block.capacity());
        // SAFETY: it was taken just now, and nothing was done since.
        unsafe { output.writer().lend_again(block) };
        if capacity < len as usize {
            return Err(Error::WrongSize);
        }
        // The block lies in the arena, so the sum does.
        Ok(output.writer().channel().arena().base().as_ptr().wrapping_add(offset).cast_const())
    }

    /// Publishes a block that was lent to the line.
    pub(crate) fn publish_from_line(&mut self, word: u64, len: u32, trust: Trust) -> Result<u64, Error> {
        let trust = self.trust(trust);
        let output = self.output();
        let block = output.writer().take_from_line(word).ok_or(Error::InvalidHandle)?;
        if block.capacity() < len as usize {
            // SAFETY: it was taken just now, and nothing was done since.
            unsafe { output.writer().lend_again(block) };
            return Err(Error::WrongSize);
        }
        output.publish(block, len, trust).map_err(|(block, error)| {
            // SAFETY: it was taken just now, and was not published: the block is back, and nothing else was done since.
            unsafe { output.writer().lend_again(block) };
            error
        })
    }

    pub(crate) fn block_size(&mut self) -> u32 {
        self.output().block_size()
    }

    /// Takes a block for up to `len` bytes.
    #[inline]
    pub(crate) fn lend(&mut self, len: u32) -> Result<SuspendedLoan, Error> {
        self.output().loan(len)
    }

    /// Takes a block for up to `len` bytes, if one is free already.
    #[inline]
    pub(crate) fn lend_free(&mut self, len: u32) -> Option<SuspendedLoan> {
        self.output().loan_free(len)
    }

    /// First byte of a block that was lent.
    #[inline]
    pub(crate) fn address(&mut self, block: &SuspendedLoan) -> *mut u8 {
        // The block lies in the arena, so the sum does.
        self.output().writer().channel().arena().base().as_ptr().wrapping_add(block.offset() as usize)
    }

    /// Takes back a block that was lent and is not published.
    pub(crate) fn take_back(&mut self, block: SuspendedLoan) {
        self.output().return_loan(block);
    }

    /// What its messages are checked against if the component does not vouch for them: the layout's check and the program's
    /// rule.
    pub(crate) fn checks(&mut self) -> (Option<Validator>, Option<Validator>) {
        if self.unsealed {
            return (None, None); // they can still change
        }
        let Checks { layout, rule } = self.output.checks();
        (layout.cloned(), rule.cloned())
    }

    /// Whether there is a block for a message of `len` bytes now.
    pub(crate) fn has_block(&mut self, len: u32) -> Result<(), Error> {
        self.recall_from_line();
        let block = self.output.loan(len)?;
        self.output.return_loan(block);
        Ok(())
    }

    /// Publishes a block.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        block: SuspendedLoan,
        len: u32,
        trust: Trust,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        let trust = self.trust(trust);
        self.recall_from_line();
        self.output.publish(block, len, trust)
    }

    /// Publishes a copy of the bytes from `message` on.
    ///
    /// # Safety
    /// So many bytes from there on are readable, and nobody writes them meanwhile.
    pub(crate) unsafe fn publish_copy(
        &mut self,
        message: *const u8,
        len: u32,
        trust: Trust,
    ) -> Result<u64, Error> {
        let trust = self.trust(trust);
        self.recall_from_line();
        let block = self.output.loan(len)?;
        // Ranges of the arena are copied by way of a buffer, as they could overlap the block.
        let arena = self.output.writer().channel().arena();
        let within = (message as usize).wrapping_sub(arena.base().as_ptr() as usize) < arena.len();
        let buffer = if within {
            // SAFETY: readable and unchanged, as the caller promises.
            Some(unsafe { std::slice::from_raw_parts(message, len as usize) }.to_vec())
        } else {
            None
        };
        let source = buffer.as_ref().map_or(message, Vec::as_ptr);
        // SAFETY: readable and unchanged (the caller's promise), and outside of the arena, as was just seen to.
        let published = unsafe { self.output.publish_copy(block, Some(source), len, trust) };
        published.map_err(|(block, error)| {
            self.output.return_loan(block);
            error
        })
    }

    fn trust(&self, trust: Trust) -> Trust {
        if self.unsealed { Trust::Nothing } else { trust }
    }

    pub(crate) fn subscribers(&mut self) -> u32 {
        self.output().subscribers()
    }

    pub(crate) fn free_blocks(&mut self) -> u32 {
        self.output().free_blocks()
    }

    /// Announces that the component is about to sleep, and says whether it has reason not to.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(signal) = &self.signal {
            signal.register(cx.waker());
        }
        self.output().arm(cx)
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        // A line publishes past the output, so the channel counts what is published.
        let (published, bytes) = self.output.port().published();
        PublisherStats { published, bytes, ..self.output.stats() }
    }
}

impl fmt::Debug for LibraryPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibraryPublisher").field("output", &self.output).finish_non_exhaustive()
    }
}
