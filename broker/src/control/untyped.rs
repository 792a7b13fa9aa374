//! [`UntypedPublisher`]: publishes bytes of any layout.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use blockcast_blocks::shield::shielded;
use blockcast_blocks::{InvalidPayload, LoanError, NoRelay, RawSendBatch, Schema, Sequence, Writer};

use crate::control::topic::Topic;

/// Publishes messages to a topic whose layout the program does not know, such as a bridge. Opened by
/// [`Broker::publisher_of_any`](crate::Broker::publisher_of_any).
///
/// If a typed participant of this process has joined the topic, the broker knows the layout, and checks each
/// message once, in its block. Then subscribers of this process do not check it again. Otherwise every typed
/// subscriber checks for itself. A [rule](crate::Broker::declare) of the topic applies too.
pub struct UntypedPublisher {
    topic: Arc<Topic>,
    writer: Writer,
}

/// A message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishBytesError {
    /// There is no block for it.
    #[error(transparent)]
    Loan(#[from] LoanError),
    /// It is not a value of the topic's layout, or the topic's rule refuses it.
    #[error(transparent)]
    Invalid(#[from] InvalidPayload),
    /// The check of the layout, or the topic's rule, has panicked.
    #[error("the check of the message has panicked")]
    Panicked,
}

/// Not all messages of a batch were published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after {published} messages of the batch: {error}")]
pub struct PublishBatchError {
    /// The number of messages that were published: the first ones of the batch.
    pub published: usize,
    /// Why the next one was not.
    pub error: PublishBytesError,
}

impl UntypedPublisher {
    pub(crate) fn new(topic: Arc<Topic>, writer: Writer) -> Self {
        Self { topic, writer }
    }

    /// The schema of the topic.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.topic.schema()
    }

    /// Bytes of the largest message.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.writer.block_size()
    }

    /// The number of subscribers that have joined.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        self.writer.subscriber_count()
    }

    /// Publishes a message of `len` bytes, which `fill` writes into its block. Copies nothing itself. Never
    /// waits.
    ///
    /// # Errors
    /// [`PublishBytesError`]. Nobody sees the message then.
    pub fn try_publish(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Sequence, PublishBytesError> {
        let mut loan = self.writer.try_loan(len)?;
        fill(&mut loan[..len]);
        let is_checked = check(&self.topic, &loan[..len])?;
        let published = if is_checked {
            // SAFETY: the check of the topic's layout has just accepted these bytes, which nobody else can
            // write.
            unsafe { loan.publish_valid(len) }
        } else {
            loan.publish(len)
        };
        Ok(published?)
    }

    /// Publishes messages, each copied once, which become visible together. Never waits. Returns their
    /// number.
    ///
    /// If no block is free for one of them, those before it become visible first, because subscribers must
    /// see them to release them.
    ///
    /// # Errors
    /// [`PublishBatchError`], for the first message that cannot be published. Those before it are. No other
    /// one is.
    pub fn try_publish_batch<'m>(
        &mut self,
        messages: impl IntoIterator<Item = &'m [u8]>,
    ) -> Result<usize, PublishBatchError> {
        let mut batch = self.writer.batch();
        let (mut added, mut failed) = (0, None);
        for message in messages {
            if let Err(error) = add(&self.topic, &mut batch, message) {
                failed = Some(error);
                break;
            }
            added += 1;
        }
        match (batch.publish(added), failed) {
            (Err((published, error)), _) => Err(PublishBatchError { published, error: error.into() }),
            (Ok(()), Some(error)) => Err(PublishBatchError { published: added, error }),
            (Ok(()), None) => Ok(added),
        }
    }

    /// Ready once [`try_publish`](Self::try_publish) finds a block for a message of `len` bytes, or fails for
    /// another reason than a lack of blocks.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<()> {
        self.writer.poll_loanable(cx, len).map(drop)
    }

    /// Reports that `count` messages were lost before they reached this publisher: see
    /// [`Writer::report_lost`].
    ///
    /// # Errors
    /// [`NoRelay`] if the publisher was not opened as a relay.
    pub fn report_lost(&mut self, count: u64) -> Result<(), NoRelay> {
        self.writer.report_lost(count)
    }
}

/// Whether the layout of a message was checked. It is not, if nobody here knows it.
fn check(topic: &Topic, message: &[u8]) -> Result<bool, PublishBytesError> {
    let checks = topic.checks();
    // The checks are user code.
    let checked = shielded(|| {
        checks.layout.map_or(Ok(()), |check| check(message))?;
        checks.rule.map_or(Ok(()), |check| check(message))
    });
    checked.map_err(|_| PublishBytesError::Panicked)??;
    Ok(checks.layout.is_some())
}

/// Copies a message into a block, and adds it to a batch if the topic's checks accept it.
fn add(topic: &Topic, batch: &mut RawSendBatch<'_>, message: &[u8]) -> Result<(), PublishBytesError> {
    let len = message.len();
    let mut loan = batch.try_loan(len)?;
    loan[..len].copy_from_slice(message);
    let is_checked = check(topic, &loan[..len])?;
    if is_checked {
        // SAFETY: the check of the topic's layout has just accepted these bytes, which nobody else can write.
        unsafe { loan.add_valid(len) }?;
    } else {
        loan.add_bytes(len)?;
    }
    Ok(())
}

impl fmt::Debug for UntypedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntypedPublisher").field("topic", &self.topic.name()).finish_non_exhaustive()
    }
}
