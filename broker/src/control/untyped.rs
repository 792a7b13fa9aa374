//! [`UntypedPublisher`]: publishes bytes of any layout.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use blockcast_blocks::shield::shielded;
use blockcast_blocks::{InvalidPayload, LoanError, NoRelay, RawLoan, Schema, Sequence, Writer};

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
        publish(&self.topic, loan, len)
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

/// Publishes the first `len` bytes of a block, if the topic's checks accept them.
fn publish(topic: &Topic, loan: RawLoan<'_>, len: usize) -> Result<Sequence, PublishBytesError> {
    let checks = topic.checks();
    // The checks are user code.
    let checked = shielded(|| {
        checks.layout.map_or(Ok(()), |check| check(&loan[..len]))?;
        checks.rule.map_or(Ok(()), |check| check(&loan[..len]))
    });
    checked.map_err(|_| PublishBytesError::Panicked)??;
    let published = if checks.layout.is_some() {
        // SAFETY: the check of the topic's layout has just accepted these bytes, which nobody else can write.
        unsafe { loan.publish_valid(len) }
    } else {
        loan.publish(len)
    };
    Ok(published?)
}

impl fmt::Debug for UntypedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntypedPublisher").field("topic", &self.topic.name()).finish_non_exhaustive()
    }
}
