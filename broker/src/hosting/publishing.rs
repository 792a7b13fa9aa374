//! What one publisher of a component gives to its topic: [`Output`].

use std::fmt;
use std::task::{Context, Poll};

use blockcast_blocks::abi::{Error, PublisherStats};
use blockcast_blocks::{LoanError, RawLoan, SuspendedLoan, Writer};

use crate::hosting::topic_access::{Checks, PublisherPort, Validator};

/// Whether the bytes of a message are a value of the topic's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// To be found out, where the broker knows the schema.
    Validate,
    /// Not worth a look: they can still change.
    Nothing,
    /// They are: who has written them vouches for it, or they were checked already.
    Vouched,
    /// They are not, or the program's rule is against them.
    Refused,
}

impl Trust {
    /// What the checks find. Each is code of the program.
    pub(crate) fn found(checks: Checks<'_>, bytes: &[u8]) -> Self {
        // The layout's check comes first: a rule may rely on it.
        let refused = |check: &&Validator| check(bytes).is_err();
        if checks.layout.as_ref().is_some_and(refused) || checks.rule.as_ref().is_some_and(refused) {
            return Self::Refused;
        }
        if checks.layout.is_some() { Self::Vouched } else { Self::Nothing }
    }
}

/// One publisher: blocks that it takes and publishes, and what it has to be told.
pub(crate) struct Output<O> {
    outlet: O,
    stats: PublisherStats,
    /// Length of the message for which there was no block.
    refused: Option<usize>,
    /// Subscribers when the component last looked.
    subscribers: u32,
}

impl<O: PublisherPort> Output<O> {
    pub(crate) fn new(outlet: O) -> Self {
        let subscribers = outlet.subscribers();
        Self { outlet, stats: PublisherStats::default(), refused: None, subscribers }
    }

    /// Where it goes.
    pub(crate) fn outlet(&self) -> &O {
        &self.outlet
    }

    #[inline]
    pub(crate) fn writer(&mut self) -> &mut Writer {
        self.outlet.writer().0
    }

    /// What its messages are checked against.
    pub(crate) fn checks(&mut self) -> Checks<'_> {
        self.outlet.writer().1
    }

    pub(crate) fn block_size(&mut self) -> u32 {
        u32::try_from(self.writer().block_size()).unwrap_or(u32::MAX)
    }

    /// Takes a block of at least `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: u32) -> Result<SuspendedLoan, Error> {
        let taken = self.outlet.writer().0.try_loan(len as usize).map(RawLoan::suspend);
        taken.map_err(|error| self.not_taken(len, &error))
    }

    /// Takes a block of at least `len` bytes, if one is free already.
    #[inline]
    pub(crate) fn take_free(&mut self, len: u32) -> Option<SuspendedLoan> {
        self.writer().try_loan_free(len as usize).map(RawLoan::suspend)
    }

    #[cold]
    fn not_taken(&mut self, len: u32, error: &LoanError) -> Error {
        if let LoanError::TooLarge { .. } = error {
            return Error::TooLarge;
        }
        self.refused = Some(len as usize);
        self.stats.exhausted += 1;
        Error::Exhausted
    }

    /// Lends up to `room` blocks to the publisher's line: the first as [`take`](Self::take) takes it, more if they are free.
    /// Returns the first sequence that names one, and how many there are.
    ///
    /// # Safety
    /// As for [`Writer::lend_to_line`].
    pub(crate) unsafe fn lend_to_line(&mut self, room: u32) -> Result<(u64, u32), Error> {
        // SAFETY: the caller's promise.
        let lent = unsafe { self.outlet.writer().0.lend_to_line(room) };
        lent.map_err(|error| self.not_taken(0, &error))
    }

    /// Takes back a block that was taken and is not published.
    pub(crate) fn take_back(&mut self, block: SuspendedLoan) {
        // Dropped at once, which returns the block. Another publisher's loan cannot get here.
        let _ = self.writer().resume(block);
    }

    /// Publishes the first `len` bytes of a block that nobody can write any more, but as `trust` says.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        block: SuspendedLoan,
        len: u32,
        trust: Trust,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        let (writer, checks) = self.outlet.writer();
        let loan = writer.resume(block).map_err(|block| (block, Error::Internal))?;
        let published = publish(loan, len as usize, trust, checks)?;
        self.count(len);
        Ok(published)
    }

    /// Publishes a copy of `len` bytes from `source` on in a block that was taken.
    ///
    /// # Safety
    /// `source`, if there is one, points to that many readable bytes outside of the publisher's arena, which nobody writes
    /// during the call. Without a source the bytes are zeros.
    pub(crate) unsafe fn publish_copy(
        &mut self,
        block: SuspendedLoan,
        source: Option<*const u8>,
        len: u32,
        trust: Trust,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        let (writer, checks) = self.outlet.writer();
        let mut loan = writer.resume(block).map_err(|block| (block, Error::Internal))?;
        let Some(target) = loan.get_mut(..len as usize) else {
            return Err((loan.suspend(), Error::TooLarge));
        };
        match source {
            // SAFETY: readable, and not in the arena (the caller's promise), in which the block is that is exclusively ours.
            Some(source) => unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) },
            None => target.fill(0),
        }
        let published = publish(loan, len as usize, trust, checks)?;
        self.stats.copied += u64::from(len);
        self.count(len);
        Ok(published)
    }

    fn count(&mut self, len: u32) {
        self.stats.published += 1;
        self.stats.bytes += u64::from(len);
    }

    /// How many subscribers there are.
    pub(crate) fn subscribers(&mut self) -> u32 {
        self.subscribers = self.outlet.subscribers();
        self.subscribers
    }

    /// How many messages can be published now.
    pub(crate) fn free_blocks(&mut self) -> u32 {
        let writer = self.outlet.writer().0;
        if writer.pool().free == 0 {
            // A loan looks further than `reclaim`: it overtakes subscribers that allow it. Dropped, it stays free.
            drop(writer.try_loan(0));
        }
        let free = writer.pool().free;
        if free == 0 {
            self.refused = Some(0);
        }
        self.stats.free_blocks = free;
        free
    }

    /// Announces that the component is about to sleep, and says whether it has reason not to.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(len) = self.refused
            && let Poll::Ready(_) = self.writer().poll_loanable(cx, len)
        {
            self.refused = None;
            return true;
        }
        let subscribers = self.outlet.subscribers();
        std::mem::replace(&mut self.subscribers, subscribers) != subscribers
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        self.stats
    }
}

/// Publishes the first `len` bytes of a block, as far as they can be trusted.
#[inline]
fn publish(
    loan: RawLoan<'_>,
    len: usize,
    trust: Trust,
    checks: Checks<'_>,
) -> Result<u64, (SuspendedLoan, Error)> {
    let Some(bytes) = loan.get(..len) else { return Err((loan.suspend(), Error::TooLarge)) };
    let trust = if trust == Trust::Validate { Trust::found(checks, bytes) } else { trust };
    let valid = match trust {
        Trust::Vouched => true,
        Trust::Nothing => false,
        Trust::Refused | Trust::Validate => return Err((loan.suspend(), Error::InvalidPayload)),
    };
    let published = if valid {
        // SAFETY: the layout's own check has just accepted these bytes, which nobody can change any more; or native code
        // vouches for them, which by the contract under which it was loaded has built them as a value of the schema.
        unsafe { loan.publish_valid(len) }
    } else {
        loan.publish(len)
    };
    // The length was looked at, and nothing else is refused.
    Ok(published.map_or(0, |sequence| sequence.get()))
}

impl<O> fmt::Debug for Output<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("stats", &self.stats).finish_non_exhaustive()
    }
}
