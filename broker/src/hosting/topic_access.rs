//! What the wasm host needs of the rest of the broker: joining topics.

use std::fmt;
use std::sync::Arc;

use blockcast_blocks::abi::Error;
use blockcast_blocks::{InvalidPayload, JoinError, Reader, ReaderOptions, Schema, Signal, Writer};

use crate::component::limit_policy::Limit;

/// What a guest asks for when it opens a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// Capacity of a block in bytes.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// Messages kept for subscribers that join late.
    pub history: u32,
}

/// Why a guest may not join a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It was not granted.
    #[error("not granted")]
    Denied,
    /// The topic carries another layout.
    #[error("the topic carries another schema")]
    SchemaMismatch,
    /// A number of blocks or bytes that cannot be.
    #[error("the number or size of blocks is out of range")]
    WrongSize,
    /// A limit is reached.
    #[error("a limit of the component is reached")]
    Limit,
    /// The topic does not exist, and the guest has created as many as it may.
    #[error("the component has created as many topics as it may")]
    Topics,
    /// The guest has as many subscriptions of the topic as it may.
    #[error("the component has as many subscriptions of the topic as it may")]
    SubscriptionsPerTopic,
    /// The broker shuts down.
    #[error("the broker is shutting down")]
    Closed,
    /// The system refused.
    #[error("the system refused memory or a descriptor")]
    Internal,
}

impl Refusal {
    /// The limit of the guest's own that is reached, if that is why.
    pub(crate) fn limit(self) -> Option<Limit> {
        match self {
            Self::Topics => Some(Limit::Topics),
            Self::SubscriptionsPerTopic => Some(Limit::SubscriptionsPerTopic),
            _ => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::Denied,
            Refusal::SchemaMismatch => Self::SchemaMismatch,
            Refusal::WrongSize => Self::WrongSize,
            Refusal::Limit | Refusal::Topics | Refusal::SubscriptionsPerTopic => Self::Limit,
            Refusal::Closed => Self::Closed,
            Refusal::Internal => Self::Internal,
        }
    }
}

/// Checks the bytes of a message. It is called on the thread that publishes and must be quick.
pub type Validator = Arc<dyn Fn(&[u8]) -> Result<(), InvalidPayload> + Send + Sync>;

/// What a message of a component is checked against before anybody sees it.
#[derive(Clone, Copy, Default)]
pub struct Checks<'t> {
    /// The schema's own check. What it accepts is marked as valid, and typed subscribers in this process do not check it
    /// again. `None` if the broker does not know the layout: no message is marked then.
    pub layout: Option<&'t Validator>,
    /// The program's own rule, applied after the layout's check. What it accepts is not marked as valid.
    pub rule: Option<&'t Validator>,
}

/// The topics that one guest reaches, as far as it was granted them.
///
/// # Safety
/// The host maps what it gets from here into the guest and reads it while other threads may use it. Therefore
/// - every reader of a [`SubscriptionSource`] belongs to a channel of the topic and schema that were asked for;
/// - an [`PublisherPort`] keeps the promises of its trait, for the topic and schema that were asked for;
/// - all feeds and outlets of a topic agree on `is_unsealed`, and native code never subscribes to an unsealed topic.
pub unsafe trait TopicAccess: Send + Sync {
    /// Subscribes to a topic. `signal` is woken by messages, by publishers that join and by the end.
    ///
    /// # Errors
    /// [`Refusal`].
    fn subscribe(
        &self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn SubscriptionSource>, Refusal>;

    /// Adds a publisher to a topic. `signal` is woken when subscribers join or leave.
    ///
    /// # Errors
    /// [`Refusal`].
    fn publish(
        &self,
        topic: &str,
        schema: &Schema,
        options: BlockOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn PublisherPort>, Refusal>;
}

/// A guest's subscription as the broker sees it. Dropping it leaves the topic.
///
/// # Safety
/// - Every reader belongs to a channel of the subscription's topic, and nobody else has it.
/// - [`is_unsealed`](Self::is_unsealed) always returns the same. If it is false, no component can write into a message of
///   the topic that was published.
pub unsafe trait SubscriptionSource: Send {
    /// A publisher of the topic that was not returned before. Cheap when there is none.
    fn next_joined(&mut self) -> Option<Result<Reader, JoinError>>;

    /// Whether guests may go on writing into what they have published to the topic.
    fn is_unsealed(&self) -> bool {
        false
    }

    /// Whether the topic may still get publishers: false once the last one of at least one has left, or when the broker
    /// shuts down.
    fn is_open(&self) -> bool;
}

/// A guest's publisher as the broker sees it. Dropping it ends the channel.
///
/// # Safety
/// - [`writer`](Self::writer) always returns the same writer, and nothing else uses it while the outlet lives. The guest
///   gets write access to that writer's blocks.
/// - The [`layout`](Checks::layout) check is that of the schema of the writer's channel: it accepts only bytes that every
///   [`Payload`](blockcast_blocks::Payload) of that schema may [view](blockcast_blocks::Payload::view).
/// - [`is_unsealed`](Self::is_unsealed) always returns the same. If it is true, no native code subscribes to the channel.
pub unsafe trait PublisherPort: Send {
    /// The writing end, and the checks of what is published through it.
    fn writer(&mut self) -> (&mut Writer, Checks<'_>);

    /// Subscriptions of the topic now.
    fn subscribers(&self) -> u32;

    /// Whether the topic's owner lets guests go on writing into what they have published. Only where no native code
    /// subscribes.
    fn is_unsealed(&self) -> bool {
        false
    }
}

// SAFETY: the box passes every call on to one outlet, which keeps the promises.
unsafe impl PublisherPort for Box<dyn PublisherPort> {
    fn writer(&mut self) -> (&mut Writer, Checks<'_>) {
        (**self).writer()
    }

    fn subscribers(&self) -> u32 {
        (**self).subscribers()
    }

    fn is_unsealed(&self) -> bool {
        (**self).is_unsealed()
    }
}

impl fmt::Debug for Checks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layout, rule) = (self.layout.is_some(), self.rule.is_some());
        f.debug_struct("Checks").field("layout", &layout).field("rule", &rule).finish()
    }
}
