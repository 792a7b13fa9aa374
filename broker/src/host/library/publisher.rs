//! A publisher of a native component. It builds every message in the block that subscribers read.

use std::fmt;
use std::sync::Arc;
use std::task::Context;

use blockcast_blocks::abi::{DirectPublisher, Error, PublisherStats};
use blockcast_blocks::{ArenaPin, Signal, SuspendedLoan};

use crate::control::granted::TopicPort;
use crate::hosting::publishing::{Output, Trust};
use crate::hosting::topic_access::{Checks, PublisherPort, Validator};

/// A publisher of a native component.
pub(crate) struct LibraryPublisher {
    output: Output<TopicPort>,
    /// The signal it waits on, if it has a name of its own.
    signal: Option<Arc<Signal>>,
    unsealed: bool,
    /// Whether the component publishes directly, past this publisher.
    direct: bool,
}

impl LibraryPublisher {
    pub(crate) fn new(port: TopicPort, signal: Option<Arc<Signal>>) -> Self {
        let unsealed = port.is_unsealed();
        Self { output: Output::new(port), signal, unsealed, direct: false }
    }

    /// Returns the output, after it has adopted the directly published messages.
    #[inline]
    fn output(&mut self) -> &mut Output<TopicPort> {
        if self.direct {
            self.output.writer().adopt();
        }
        &mut self.output
    }

    /// Enables direct publishing if possible. The component vouches for the messages that it publishes
    /// directly.
    pub(crate) fn direct_publisher(&mut self) -> Option<DirectPublisher> {
        let direct = self.output.writer().direct_publisher()?;
        if self.unsealed {
            return None;
        }
        self.direct = true;
        Some(direct)
    }

    /// Pins the memory of its blocks and of the words that direct publishing uses.
    pub(crate) fn pin(&mut self) -> ArenaPin {
        self.output.writer().channel().pin()
    }

    /// Lends up to `room` blocks for direct publishing, at least one. Returns the first sequence that names
    /// one, and their number.
    pub(crate) fn reserve_direct(&mut self, room: u32) -> Result<(u64, u32), Error> {
        if !self.direct {
            return Err(Error::Denied);
        }
        // SAFETY: `direct` is set. So everything here that publishes other blocks recalls first (`publish`,
        // `publish_copy`), and everything else that uses the writer adopts first (`output`). Nothing is
        // published directly meanwhile: the component vouches that it does not publish directly while it
        // calls this publisher, and that it directly publishes only blocks that it was lent last.
        unsafe { self.output.reserve_direct(room) }
    }

    /// Takes back the blocks lent for direct publishing. Call this before anything else is published or lent.
    #[inline]
    pub(crate) fn recall_direct(&mut self) {
        if self.direct {
            self.output.writer().recall_direct();
        }
    }

    /// Number of blocks that are lent for direct publishing and not yet published.
    pub(crate) fn reserved_direct(&mut self) -> u32 {
        self.output().writer().reserved_direct()
    }

    /// Wakes those who wait for directly published messages.
    pub(crate) fn wake_subscribers(&mut self) {
        self.output().writer().wake_subscribers();
    }

    /// The first byte of the block that `word` names, which must be the next one to be published directly.
    pub(crate) fn next_direct_block(&mut self, word: u64, len: u32) -> Result<*const u8, Error> {
        let output = self.output();
        let block = output.writer().take_direct(word).ok_or(Error::InvalidHandle)?;
        let (offset, capacity) = (block.offset() as usize, block.capacity());
        // SAFETY: the block was taken just now, and nothing has been done since.
        unsafe { output.writer().reserve_again(block) };
        if capacity < len as usize {
            return Err(Error::WrongSize);
        }
        // In bounds: the block lies within the arena.
        Ok(output.writer().channel().arena().base().as_ptr().wrapping_add(offset).cast_const())
    }

    /// Publishes a block that was lent for direct publishing.
    pub(crate) fn publish_direct(&mut self, word: u64, len: u32, trust: Trust) -> Result<u64, Error> {
        let trust = self.trust(trust);
        let output = self.output();
        let block = output.writer().take_direct(word).ok_or(Error::InvalidHandle)?;
        if block.capacity() < len as usize {
            // SAFETY: the block was taken just now, and nothing has been done since.
            unsafe { output.writer().reserve_again(block) };
            return Err(Error::WrongSize);
        }
        output.publish(block, len, trust).map_err(|(block, error)| {
            // SAFETY: the block was taken just now and has not been published; nothing else has been done
            // since.
            unsafe { output.writer().reserve_again(block) };
            error
        })
    }

    pub(crate) fn block_size(&mut self) -> u32 {
        self.output().block_size()
    }

    /// Loans a block for up to `len` bytes.
    #[inline]
    pub(crate) fn loan(&mut self, len: u32) -> Result<SuspendedLoan, Error> {
        self.output().loan(len)
    }

    /// Loans a block for up to `len` bytes, if one is free already.
    #[inline]
    pub(crate) fn loan_free(&mut self, len: u32) -> Option<SuspendedLoan> {
        self.output().loan_free(len)
    }

    /// The first byte of a loaned block.
    #[inline]
    pub(crate) fn address(&mut self, block: &SuspendedLoan) -> *mut u8 {
        // In bounds: the block lies within the arena.
        self.output().writer().channel().arena().base().as_ptr().wrapping_add(block.offset() as usize)
    }

    /// Returns a loaned block that will not be published.
    pub(crate) fn take_back(&mut self, block: SuspendedLoan) {
        self.output().return_loan(block);
    }

    /// The checks for messages that the component does not vouch for: the layout's check and the program's
    /// rule.
    pub(crate) fn checks(&mut self) -> (Option<Validator>, Option<Validator>) {
        if self.unsealed {
            return (None, None); // checking is pointless, since the messages can still change
        }
        let Checks { layout, rule } = self.output.checks();
        (layout.cloned(), rule.cloned())
    }

    /// Checks that a block for a message of `len` bytes is free now.
    pub(crate) fn has_block(&mut self, len: u32) -> Result<(), Error> {
        self.recall_direct();
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
        self.recall_direct();
        self.output.publish(block, len, trust)
    }

    /// Publishes a copy of the bytes from `message` on.
    ///
    /// # Safety
    /// `len` bytes from `message` on are readable, and nobody writes to them during the call.
    pub(crate) unsafe fn publish_copy(
        &mut self,
        message: *const u8,
        len: u32,
        trust: Trust,
    ) -> Result<u64, Error> {
        let trust = self.trust(trust);
        self.recall_direct();
        // A message in the arena is copied through a buffer, since it could overlap the block.
        let arena = self.output.writer().channel().arena();
        let within = (message as usize).wrapping_sub(arena.base().as_ptr() as usize) < arena.len();
        let buffer = if within {
            // SAFETY: the caller guarantees that the bytes are readable and unchanged.
            Some(unsafe { std::slice::from_raw_parts(message, len as usize) }.to_vec())
        } else {
            None
        };
        let source = buffer.as_ref().map_or(message, Vec::as_ptr);
        // SAFETY: the bytes are readable and unchanged (the caller guarantees this) and lie outside of the
        // arena (see above).
        unsafe { self.output.send_copy(source, len, trust) }
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

    /// Announces that the component is about to sleep. Returns `true` if it must not sleep.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(signal) = &self.signal {
            signal.register(cx.waker());
        }
        self.output().arm(cx)
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        // Direct publishing passes the output by, so the channel counts what is published.
        let (published, bytes) = self.output.port().published();
        PublisherStats { published, bytes, ..self.output.stats() }
    }
}

impl fmt::Debug for LibraryPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibraryPublisher").field("output", &self.output).finish_non_exhaustive()
    }
}
