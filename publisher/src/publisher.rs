//! [`Publisher`]: a typed writer.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Context, Poll};
use std::time::Instant;

use blockcast_blocks::{BLOCK_ALIGNMENT, LoanError, Payload, Schema, Sequence, WhenReady, Writer, park};

use crate::loan::Loan;

/// Publishes messages of layout `P` to one topic, from blocks of its own.
///
/// Dropping it ends its part of the topic: subscribers receive what is left, then the end.
///
/// # What it leaves behind
/// The file descriptor is closed at once, unless guests subscribe: then it stays open until they have received everything and
/// released it. The memory of the blocks is given back at once if every subscriber has received everything and nobody keeps
/// samples. Otherwise *all* blocks stay, with two memory mappings of the process, until the last subscriber has received what is
/// left or has gone and the last sample is dropped. A subscriber that received the last message notices the end, and lets go,
/// when it looks for the next one.
///
/// So a program that opens and drops publishers again and again needs as much memory as its slowest subscriber leaves
/// unread, whatever the number of blocks of each: keep one publisher instead.
#[derive(Debug)]
pub struct Publisher<P: Payload> {
    writer: Writer,
    payload: PhantomData<fn() -> P>,
}

/// A writer carries another layout than the publisher was to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the writer carries {writer}, but the publisher writes {publisher}")]
pub struct Misfit {
    /// The writer's schema.
    pub writer: Schema,
    /// The payload's schema.
    pub publisher: Schema,
}

impl<P: Payload> Publisher<P> {
    /// A publisher that writes to `writer`.
    ///
    /// # Errors
    /// [`Misfit`] if the writer's schema is not that of `P`.
    pub fn new(writer: Writer) -> Result<Self, Misfit> {
        debug_assert!(P::alignment() <= BLOCK_ALIGNMENT, "blocks are aligned to {BLOCK_ALIGNMENT} only");
        if *writer.schema() != P::schema() {
            return Err(Misfit { writer: writer.schema().clone(), publisher: P::schema() });
        }
        Ok(Self { writer, payload: PhantomData })
    }

    /// Loans a block, the smallest that is free where there are several sizes. Never waits.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`] while every block is in use.
    #[inline]
    pub fn try_loan(&mut self) -> Result<Loan<'_, P>, LoanError> {
        self.try_loan_sized(0)
    }

    /// Loans a block of at least `bytes`. Never waits.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`] while every block of that size is in use, [`LoanError::TooLarge`].
    #[inline]
    pub fn try_loan_sized(&mut self, bytes: usize) -> Result<Loan<'_, P>, LoanError> {
        self.writer.try_loan(bytes).map(Loan::new)
    }

    /// Loans a block, waiting for one to come free. Cancel-safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// None while the host is alive; a guest whose host is shutting down gets an error here.
    #[inline]
    pub fn loan(&mut self) -> impl Future<Output = Result<Loan<'_, P>, LoanError>> {
        self.loan_sized(0)
    }

    /// Loans a block of at least `bytes`, waiting for one to come free. Cancel-safe.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`], and as for [`loan`](Self::loan).
    #[inline]
    pub fn loan_sized(&mut self, bytes: usize) -> impl Future<Output = Result<Loan<'_, P>, LoanError>> {
        #[cfg(not(any(target_family = "wasm", blockcast_library)))]
        self.writer.begin_loan();
        WhenReady::new(
            self,
            move |publisher: &mut Self, cx| publisher.writer.poll_loanable(cx, bytes),
            move |publisher| publisher.try_loan_sized(bytes),
        )
    }

    /// Loans a block of at least `bytes` (0: any), blocking the thread until one comes free, or until
    /// `deadline` if there is one.
    ///
    /// # Errors
    /// [`LoanError::Deadline`], [`LoanError::TooLarge`].
    pub fn blocking_loan_sized(
        &mut self,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Loan<'_, P>, LoanError> {
        self.writer.loan(bytes, deadline).map(Loan::new)
    }

    /// Loans a block, blocking the thread until one comes free, or until `deadline` if there is one.
    ///
    /// # Errors
    /// [`LoanError::Deadline`].
    pub fn blocking_loan(&mut self, deadline: Option<Instant>) -> Result<Loan<'_, P>, LoanError> {
        self.blocking_loan_sized(0, deadline)
    }

    /// Longest message in bytes.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.writer.block_size()
    }

    /// The sequence that the next message gets: the number of messages published so far.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        self.writer.next_sequence()
    }

    /// Subscribers of the topic now.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        self.writer.subscriber_count()
    }

    /// Waits until the topic has at least `count` subscribers. In a forked child it returns at once: the next loan is refused.
    pub async fn subscribers(&mut self, count: u32) {
        poll_fn(|cx| self.poll_subscribers(cx, count)).await;
    }

    /// As [`subscribers`](Self::subscribers), blocking the thread, or until `deadline` if there is one: false if it has passed, and in
    /// a forked child.
    pub fn blocking_subscribers(&mut self, count: u32, deadline: Option<Instant>) -> bool {
        park::until(deadline, |cx| self.poll_subscribers(cx, count)).is_some() && !self.writer.is_inherited()
    }

    fn poll_subscribers(&mut self, cx: &mut Context<'_>, count: u32) -> Poll<()> {
        self.writer.register(cx);
        let there = self.writer.subscriber_count() >= count || self.writer.is_inherited();
        if there { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Looks for blocks that came free and returns how many are free now. Never waits.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    pub fn reclaim(&mut self) -> u32 {
        self.writer.reclaim()
    }

    /// The untyped end, to look at.
    ///
    /// It is never lent as `&mut`: two publishers could exchange their writers, and each would write its own type
    /// to the topic of the other.
    ///
    /// ```compile_fail,E0599
    /// # use blockcast_blocks::{ChannelConfig, Payload, Pod, PublisherId, channel};
    /// # use blockcast_publisher::Publisher;
    /// # let writer = |schema| channel(ChannelConfig::new(PublisherId::new(1), schema)).unwrap();
    /// let mut words = Publisher::<Pod<u32>>::new(writer(Pod::<u32>::schema()))?;
    /// let mut bytes = Publisher::<Pod<u8>>::new(writer(Pod::<u8>::schema()))?;
    /// std::mem::swap(words.writer_mut(), bytes.writer_mut());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    /// Looking is allowed:
    /// ```
    /// # use blockcast_blocks::{ChannelConfig, Payload, Pod, PublisherId, channel};
    /// # use blockcast_publisher::Publisher;
    /// # let writer = |schema| channel(ChannelConfig::new(PublisherId::new(1), schema)).unwrap();
    /// let mut words = Publisher::<Pod<u32>>::new(writer(Pod::<u32>::schema()))?;
    /// let mut bytes = Publisher::<Pod<u8>>::new(writer(Pod::<u8>::schema()))?;
    /// assert_ne!(words.writer().schema(), bytes.writer().schema());
    /// assert_eq!((words.reclaim(), bytes.reclaim()), (64, 64));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }
}
