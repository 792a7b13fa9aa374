//! One publisher of a component: [`Output`].

use std::fmt;
use std::task::{Context, Poll};

use blockcast_blocks::abi::{Error, PublisherStats};
use blockcast_blocks::{LoanError, RawLoan, RawSendBatch, SuspendedLoan, Writer};
use blockcast_publisher::PublisherOptions;

use crate::hosting::topic_access::{Checks, PublisherPort, Validator};

/// The fewest blocks that a channel can have.
const MIN_BLOCKS: u32 = 2;

/// Raises the number of blocks that a component asks for to the minimum of a channel.
///
/// # Errors
/// [`Error::WrongSize`] if it asks for none, or for empty blocks.
pub(crate) fn with_enough_blocks(options: PublisherOptions) -> Result<PublisherOptions, Error> {
    match (options.get_block_size(), options.get_blocks()) {
        (0, _) | (_, 0) => Err(Error::WrongSize),
        (_, blocks) => Ok(options.blocks(blocks.max(MIN_BLOCKS))),
    }
}

/// How far the bytes of a message are known to be a value of the topic's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Nothing yet: check them, if the broker knows the schema.
    Validate,
    /// Nothing can be known, since they can still change.
    Nothing,
    /// They are valid: their writer vouches for it, or they have been checked.
    Vouched,
    /// They are invalid, or the program's rule refuses them.
    Refused,
}

impl Trust {
    /// Runs the checks, which are the program's code.
    pub(crate) fn check(checks: Checks<'_>, bytes: &[u8]) -> Self {
        // The layout's check comes first: a rule may rely on it.
        let refused = |check: &&Validator| check(bytes).is_err();
        if checks.layout.as_ref().is_some_and(refused) || checks.rule.as_ref().is_some_and(refused) {
            return Self::Refused;
        }
        if checks.layout.is_some() { Self::Vouched } else { Self::Nothing }
    }
}

/// One publisher of a component: loans blocks, publishes them, and learns about its subscribers.
pub(crate) struct Output<P> {
    port: P,
    stats: PublisherStats,
    /// Length of the last message for which no block was free.
    refused: Option<usize>,
    /// Number of subscribers when the component last asked.
    subscribers: u32,
}

impl<P: PublisherPort> Output<P> {
    pub(crate) fn new(port: P) -> Self {
        let subscribers = port.subscribers();
        Self { port, stats: PublisherStats::default(), refused: None, subscribers }
    }

    /// The port through which it publishes.
    pub(crate) fn port(&self) -> &P {
        &self.port
    }

    #[inline]
    pub(crate) fn writer(&mut self) -> &mut Writer {
        self.port.writer().0
    }

    /// The checks of its messages.
    pub(crate) fn checks(&mut self) -> Checks<'_> {
        self.port.writer().1
    }

    pub(crate) fn block_size(&mut self) -> u32 {
        u32::try_from(self.writer().block_size()).unwrap_or(u32::MAX)
    }

    /// Loans a block of at least `len` bytes.
    #[inline]
    pub(crate) fn loan(&mut self, len: u32) -> Result<SuspendedLoan, Error> {
        let Self { port, stats, refused, .. } = self;
        let loan = port.writer().0.try_loan(len as usize).map(RawLoan::suspend);
        loan.map_err(|error| loan_failed(stats, refused, len, &error))
    }

    /// Loans a block of at least `len` bytes if one is free, without reclaiming any.
    #[inline]
    pub(crate) fn loan_free(&mut self, len: u32) -> Option<SuspendedLoan> {
        self.writer().try_loan_free(len as usize).map(RawLoan::suspend)
    }

    /// Reserves up to `room` blocks for direct publishing: the first as [`loan`](Self::loan) does, more if
    /// they are free. Returns the first sequence that names one, and their number.
    ///
    /// # Safety
    /// The same as for [`Writer::reserve_direct`].
    pub(crate) unsafe fn reserve_direct(&mut self, room: u32) -> Result<(u64, u32), Error> {
        let Self { port, stats, refused, .. } = self;
        // SAFETY: the caller's promise.
        let lent = unsafe { port.writer().0.reserve_direct(room) };
        lent.map_err(|error| loan_failed(stats, refused, 0, &error))
    }

    /// Returns a loaned block that is not published.
    pub(crate) fn return_loan(&mut self, block: SuspendedLoan) {
        // Dropping the loan returns the block. Another publisher's loan cannot get here.
        let _ = self.writer().resume(block);
    }

    /// Publishes the first `len` bytes of a block. Nobody can write them any more, except as `trust` says.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        block: SuspendedLoan,
        len: u32,
        trust: Trust,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        let (writer, checks) = self.port.writer();
        let loan = writer.resume(block).map_err(|block| (block, Error::Internal))?;
        let published = publish(loan, len as usize, trust, checks)?;
        self.count(len);
        Ok(published)
    }

    /// Publishes a copy of the `len` bytes at `source` in a loaned block. Without a source, the bytes are
    /// zeros.
    ///
    /// # Safety
    /// `source`, if given, points to that many readable bytes outside of the publisher's arena, which nobody
    /// writes during the call.
    pub(crate) unsafe fn publish_copy(
        &mut self,
        block: SuspendedLoan,
        source: Option<*const u8>,
        len: u32,
        trust: Trust,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        let (writer, checks) = self.port.writer();
        let mut loan = writer.resume(block).map_err(|block| (block, Error::Internal))?;
        let Some(target) = loan.get_mut(..len as usize) else {
            return Err((loan.suspend(), Error::TooLarge));
        };
        match source {
            // SAFETY: the source is readable and outside of the arena (the caller's promise). The block is
            // exclusively ours.
            Some(source) => unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) },
            None => target.fill(0),
        }
        let published = publish(loan, len as usize, trust, checks)?;
        self.stats.copied += u64::from(len);
        self.count(len);
        Ok(published)
    }

    /// Loans a block, and publishes a copy of the `len` bytes at `source` in it. On an error, the block is
    /// back.
    ///
    /// # Safety
    /// The same as for [`publish_copy`](Self::publish_copy).
    #[inline]
    pub(crate) unsafe fn send_copy(
        &mut self,
        source: *const u8,
        len: u32,
        trust: Trust,
    ) -> Result<u64, Error> {
        let Self { port, stats, refused, .. } = self;
        let (writer, checks) = port.writer();
        let size = len as usize;
        let mut loan = writer.try_loan(size).map_err(|error| loan_failed(stats, refused, len, &error))?;
        let Some(target) = loan.get_mut(..size) else { return Err(Error::TooLarge) };
        // SAFETY: the source is readable and outside of the arena (the caller's promise). The block is
        // exclusively ours.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), size) };
        let is_valid = judge(trust, checks, target)?;
        // SAFETY: `judge` has just said so, and nobody else touches the block.
        let published = unsafe { finish(loan, size, is_valid) };
        self.stats.copied += u64::from(len);
        self.count(len);
        Ok(published)
    }

    fn count(&mut self, len: u32) {
        self.stats.published += 1;
        self.stats.bytes += u64::from(len);
    }

    /// Starts a batch of messages that subscribers see together.
    pub(crate) fn batch(&mut self, trust: Trust) -> OutputBatch<'_> {
        let Self { port, stats, refused, .. } = self;
        let (writer, checks) = port.writer();
        OutputBatch { batch: writer.batch(), checks, trust, stats, refused, added: 0 }
    }

    /// The number of subscribers now.
    pub(crate) fn subscribers(&mut self) -> u32 {
        self.subscribers = self.port.subscribers();
        self.subscribers
    }

    /// The number of messages that can be published now.
    pub(crate) fn free_blocks(&mut self) -> u32 {
        let writer = self.port.writer().0;
        if writer.pool().free == 0 {
            // A loan goes further than `reclaim`: it overtakes subscribers that allow it. Dropping it leaves
            // the block free.
            drop(writer.try_loan(0));
        }
        let free = writer.pool().free;
        if free == 0 {
            self.refused = Some(0);
        }
        self.stats.free_blocks = free;
        free
    }

    /// Announces that the component is about to sleep. Returns `true` if it must not sleep.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(len) = self.refused
            && let Poll::Ready(_) = self.writer().poll_loanable(cx, len)
        {
            self.refused = None;
            return true;
        }
        let subscribers = self.port.subscribers();
        std::mem::replace(&mut self.subscribers, subscribers) != subscribers
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        self.stats
    }
}

/// Messages that subscribers see together. Dropping it publishes those that were added.
pub(crate) struct OutputBatch<'o> {
    batch: RawSendBatch<'o>,
    checks: Checks<'o>,
    trust: Trust,
    stats: &'o mut PublisherStats,
    refused: &'o mut Option<usize>,
    added: u32,
}

impl OutputBatch<'_> {
    /// Adds a copy of the `len` bytes at `source`. Publishes the messages before it if no block is free.
    ///
    /// # Safety
    /// The same as for [`Output::publish_copy`].
    #[inline]
    pub(crate) unsafe fn add_copy(&mut self, source: *const u8, len: u32) -> Result<(), Error> {
        let size = len as usize;
        let mut loan = match self.batch.try_loan(size) {
            Ok(loan) => loan,
            Err(LoanError::TooLarge { .. }) => return Err(Error::TooLarge),
            Err(_) => {
                // Otherwise the component repeats the call for this message.
                if self.added == 0 {
                    *self.refused = Some(size);
                    self.stats.exhausted += 1;
                }
                return Err(Error::Exhausted);
            }
        };
        let Some(target) = loan.get_mut(..size) else { return Err(Error::TooLarge) };
        // SAFETY: the source is readable and outside of the arena (the caller's promise). The block is
        // exclusively ours.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), size) };
        let added = if judge(self.trust, self.checks, target)? {
            // SAFETY: as in `publish`.
            unsafe { loan.add_valid(size) }
        } else {
            loan.add_bytes(size)
        };
        // The length was checked above, and nothing else is refused.
        added.map_err(|_| Error::Internal)?;
        self.added += 1;
        self.stats.published += 1;
        self.stats.bytes += u64::from(len);
        self.stats.copied += u64::from(len);
        Ok(())
    }

    /// The number of messages that were added.
    pub(crate) fn added(&self) -> u32 {
        self.added
    }
}

/// Publishes the first `len` bytes of a block, unless `trust` or the checks refuse them.
#[inline]
fn publish(
    loan: RawLoan<'_>,
    len: usize,
    trust: Trust,
    checks: Checks<'_>,
) -> Result<u64, (SuspendedLoan, Error)> {
    let Some(bytes) = loan.get(..len) else { return Err((loan.suspend(), Error::TooLarge)) };
    match judge(trust, checks, bytes) {
        // SAFETY: `judge` has just said so. Nobody can change the bytes any more, or native code vouches for
        // them: by the contract under which it was loaded, it has built them as a value of the schema.
        Ok(is_valid) => Ok(unsafe { finish(loan, len, is_valid) }),
        Err(error) => Err((loan.suspend(), error)),
    }
}

/// Whether the bytes of a message are valid: known to be a value of the topic's schema. Checks them if
/// `trust` says so.
///
/// # Errors
/// [`Error::InvalidPayload`] if the message must not be published.
#[inline]
fn judge(trust: Trust, checks: Checks<'_>, bytes: &[u8]) -> Result<bool, Error> {
    let trust = if trust == Trust::Validate { Trust::check(checks, bytes) } else { trust };
    match trust {
        Trust::Vouched => Ok(true),
        Trust::Nothing => Ok(false),
        Trust::Refused | Trust::Validate => Err(Error::InvalidPayload),
    }
}

/// Publishes the first `len` bytes of a block, which has that many.
///
/// # Safety
/// If `is_valid`, the bytes are a value of the channel's schema, and stay one.
#[inline]
unsafe fn finish(loan: RawLoan<'_>, len: usize, is_valid: bool) -> u64 {
    let published = if is_valid {
        // SAFETY: the caller's promise.
        unsafe { loan.publish_valid(len) }
    } else {
        loan.publish(len)
    };
    // The length was checked before, and nothing else is refused.
    published.map_or(0, |sequence| sequence.get())
}

/// The error of a loan that found no block, which is counted.
#[cold]
fn loan_failed(
    stats: &mut PublisherStats,
    refused: &mut Option<usize>,
    len: u32,
    error: &LoanError,
) -> Error {
    if let LoanError::TooLarge { .. } = error {
        return Error::TooLarge;
    }
    *refused = Some(len as usize);
    stats.exhausted += 1;
    Error::Exhausted
}

impl<P> fmt::Debug for Output<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("stats", &self.stats).finish_non_exhaustive()
    }
}
