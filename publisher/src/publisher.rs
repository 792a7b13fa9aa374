//! [`Publisher`]: a typed writer.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Context, Poll};
use std::time::Instant;

use blockcast_blocks::{
    BLOCK_ALIGNMENT, LoanError, Payload, Schema, Sequence, WhenReady, WriteFrom, Writer, park,
};

use crate::loan::{BatchError, Loan, SendError};

/// Publishes messages of layout `P` to one topic, from its own blocks.
///
/// After it is dropped, subscribers receive its remaining messages, then the end.
///
/// # Memory after dropping
/// The file descriptor is closed immediately, unless guests subscribe: then it stays open until they have
/// received and released all messages. The blocks' memory is freed immediately if every subscriber has
/// received all messages and nobody keeps samples. Otherwise, *all* blocks and two memory mappings remain
/// until every subscriber has received the remaining messages or is dropped, and the last sample is dropped.
/// A subscriber that has received the last message releases the memory when it looks for the next one.
///
/// So a program that repeatedly opens and drops publishers keeps all blocks of every publisher of which its
/// slowest subscriber has unread messages. Keep one publisher instead.
#[derive(Debug)]
pub struct Publisher<P: Payload> {
    writer: Writer,
    payload: PhantomData<fn() -> P>,
}

/// The schema of a writer differs from that of the publisher's payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the writer carries {writer}, but the publisher writes {publisher}")]
pub struct SchemaMismatch {
    /// The writer's schema.
    pub writer: Schema,
    /// The payload's schema.
    pub publisher: Schema,
}

impl<P: Payload> Publisher<P> {
    /// Creates a publisher from an untyped writer.
    ///
    /// # Errors
    /// [`SchemaMismatch`] if the writer's schema is not that of `P`.
    pub fn new(writer: Writer) -> Result<Self, SchemaMismatch> {
        debug_assert!(P::alignment() <= BLOCK_ALIGNMENT, "blocks are aligned to {BLOCK_ALIGNMENT} bytes");
        if *writer.schema() != P::schema() {
            return Err(SchemaMismatch { writer: writer.schema().clone(), publisher: P::schema() });
        }
        Ok(Self { writer, payload: PhantomData })
    }

    /// Reports that `count` messages were lost before they reached this publisher, which was opened as a
    /// [relay](crate::PublisherOptions::relay). Subscribers receive it as a loss, in order with the messages.
    /// Wakes all subscribers.
    ///
    /// # Errors
    /// [`NoRelay`](blockcast_blocks::NoRelay) if the publisher is not a relay.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    pub fn report_lost(&mut self, count: u64) -> Result<(), blockcast_blocks::NoRelay> {
        self.writer.report_lost(count)
    }

    /// Loans the smallest free block. Never waits.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`] while all blocks are in use.
    #[inline]
    pub fn try_loan(&mut self) -> Result<Loan<'_, P>, LoanError> {
        self.try_loan_sized(0)
    }

    /// Loans a block of at least `bytes`. Never waits.
    ///
    /// # Errors
    /// - [`LoanError::Exhausted`] while all blocks of that size are in use.
    /// - [`LoanError::TooLarge`] if the publisher has no blocks of that size.
    #[inline]
    pub fn try_loan_sized(&mut self, bytes: usize) -> Result<Loan<'_, P>, LoanError> {
        self.writer.try_loan(bytes).map(Loan::new)
    }

    /// Loans the smallest free block. Waits while all blocks are in use. Cancel-safe: dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// Fails only if a component's host is shutting down, or in a forked child.
    #[inline]
    pub fn loan(&mut self) -> impl Future<Output = Result<Loan<'_, P>, LoanError>> {
        self.loan_sized(0)
    }

    /// Loans a block of at least `bytes`. Waits while all such blocks are in use. Cancel-safe.
    ///
    /// # Errors
    /// - [`LoanError::TooLarge`] if the publisher has no blocks of that size.
    /// - Fails if [`loan`](Self::loan) fails.
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

    /// Loans a block of at least `bytes`. Blocks the thread while all such blocks are in use, until
    /// `deadline` if there is one.
    ///
    /// # Errors
    /// - [`LoanError::Deadline`] if no block is free by then.
    /// - [`LoanError::TooLarge`] if the publisher has no blocks of that size.
    /// - Fails if [`loan`](Self::loan) fails.
    pub fn blocking_loan_sized(
        &mut self,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Loan<'_, P>, LoanError> {
        self.writer.loan(bytes, deadline).map(Loan::new)
    }

    /// Loans the smallest free block. Blocks the thread while all blocks are in use, until `deadline` if
    /// there is one.
    ///
    /// # Errors
    /// - [`LoanError::Deadline`] if no block is free by then.
    /// - Fails if [`loan`](Self::loan) fails.
    pub fn blocking_loan(&mut self, deadline: Option<Instant>) -> Result<Loan<'_, P>, LoanError> {
        self.blocking_loan_sized(0, deadline)
    }

    /// Publishes a message for each of `values`, in order, as [`Loan::send`] does. Never waits. Returns the
    /// number of messages.
    ///
    /// Costs less than sending them one by one: subscribers see the messages together, so the publisher
    /// announces them once, and looks once for subscribers to wake. Only if it needs blocks that subscribers
    /// have to release, it announces the messages so far. A wasm guest passes the batch to its host with one
    /// call for about 16 KiB of messages. A native library announces messages one by one.
    ///
    /// If iterating over `values` panics, the messages before are published, except by a wasm guest, which
    /// the panic ends.
    ///
    /// ```
    /// # use blockcast_blocks::{ChannelConfig, Payload, Pod, PublisherId, ReaderOptions, Signal, channel};
    /// # use blockcast_publisher::Publisher;
    /// # let schema = Pod::<u32>::schema();
    /// # let writer = channel(ChannelConfig::new(PublisherId::new(1), schema.clone()))?;
    /// # let mut reader = writer.channel().join(&schema, ReaderOptions::default(), Signal::new())?;
    /// # let mut publisher = Publisher::<Pod<u32>>::new(writer)?;
    /// let samples = [1, 2, 3, 4, 5, 6];
    /// assert_eq!(publisher.send_batch(samples.chunks(2))?, 3);
    /// assert_eq!(reader.receive_batch(10)?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`BatchError`] with the number of messages that were published before
    /// - a value that does not fit into the largest block ([`SendError::Build`]);
    /// - one for which no block was free, or which a component's host has refused ([`SendError::Publish`]).
    pub fn send_batch<'v, V: ?Sized + 'v>(
        &mut self,
        values: impl IntoIterator<Item = &'v V>,
    ) -> Result<usize, BatchError>
    where
        P: WriteFrom<V>,
    {
        let mut batch = self.writer.batch();
        let mut sent = 0;
        let mut failed = None;
        for value in values {
            let loan = batch.try_loan(0).map(Loan::<P>::new).map_err(SendError::Publish);
            if let Err(error) = loan.and_then(|loan| loan.add(value)) {
                failed = Some(error);
                break;
            }
            sent += 1;
        }
        match (batch.publish(sent), failed) {
            (Ok(()), None) => Ok(sent),
            (Ok(()), Some(error)) => Err(BatchError { sent, error }),
            (Err((sent, error)), _) => Err(BatchError { sent, error: SendError::Publish(error) }),
        }
    }

    /// The maximum length of a message in bytes.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.writer.block_size()
    }

    /// The sequence number of the next message, which is the number of messages published so far.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        self.writer.next_sequence()
    }

    /// The current number of subscribers of the topic.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        self.writer.subscriber_count()
    }

    /// Waits until the topic has at least `count` subscribers. Returns immediately in a forked child, where
    /// loans fail.
    pub async fn subscribers(&mut self, count: u32) {
        poll_fn(|cx| self.poll_subscribers(cx, count)).await;
    }

    /// Like [`subscribers`](Self::subscribers), but blocks the thread, until `deadline` if there is one.
    /// Returns `false` after the deadline and in a forked child.
    pub fn blocking_subscribers(&mut self, count: u32, deadline: Option<Instant>) -> bool {
        park::until(deadline, |cx| self.poll_subscribers(cx, count)).is_some() && !self.writer.is_inherited()
    }

    fn poll_subscribers(&mut self, cx: &mut Context<'_>, count: u32) -> Poll<()> {
        self.writer.register(cx);
        let is_ready = self.writer.subscriber_count() >= count || self.writer.is_inherited();
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reclaims blocks that nobody needs any more, and returns the number of free blocks. Never waits.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    pub fn reclaim(&mut self) -> u32 {
        self.writer.reclaim()
    }

    /// The untyped writer.
    ///
    /// There is no method that returns it as `&mut`: two publishers could swap their writers, and then each
    /// would write its type to the other's topic.
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
    /// A shared reference is enough to inspect it:
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
