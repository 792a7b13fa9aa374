//! [`TopicAccess`]: how a component joins topics, in any host.

use std::fmt;
use std::sync::Arc;

use blockcast_blocks::abi::Error;
use blockcast_blocks::{InvalidPayload, JoinError, Reader, ReaderOptions, Schema, Signal, Writer};
use blockcast_publisher::PublisherOptions;

use crate::component::limit_policy::Limit;

/// Why a component may not join a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The component's grant does not allow it.
    #[error("not granted")]
    Denied,
    /// The topic has a different schema.
    #[error("the topic has a different schema")]
    SchemaMismatch,
    /// The number or size of blocks is out of range.
    #[error("the number or size of blocks is out of range")]
    WrongSize,
    /// A limit of the component is reached.
    #[error("a limit of the component is reached")]
    Limit,
    /// The topic does not exist, and the component has created as many topics as it may.
    #[error("the component has created as many topics as it may")]
    Topics,
    /// The component has as many subscriptions of the topic as it may.
    #[error("the component has as many subscriptions of the topic as it may")]
    SubscriptionsPerTopic,
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Closed,
    /// The system refused memory or a descriptor.
    #[error("the system refused memory or a descriptor")]
    Internal,
}

impl Refusal {
    /// The limit of the component that is reached, if that is the reason.
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

/// Checks the bytes of a message. Called on the publishing thread, so it must be quick.
pub type Validator = Arc<dyn Fn(&[u8]) -> Result<(), InvalidPayload> + Send + Sync>;

/// The checks that a component's message passes before anybody sees it.
#[derive(Clone, Copy, Default)]
pub struct Checks<'t> {
    /// The schema's own check. Messages that it accepts are marked as valid, and typed subscribers in this
    /// process do not check them again. `None` if the broker does not know the layout: then no message is
    /// marked.
    pub layout: Option<&'t Validator>,
    /// The program's own rule, applied after the layout's check. It does not mark messages as valid.
    pub rule: Option<&'t Validator>,
}

/// The topics that one component may join, according to its grants.
///
/// # Safety
/// Hosts map the memory behind these values into guests, and read it while other threads may use it.
/// Therefore
/// - every reader of a [`SubscriptionSource`] belongs to a channel of the requested topic and schema;
/// - a [`PublisherPort`] keeps the promises of its trait for the requested topic and schema;
/// - all sources and ports of a topic agree on `is_unsealed`, and native code never subscribes to an unsealed
///   topic.
pub unsafe trait TopicAccess: Send + Sync {
    /// Subscribes to a topic. Messages, joining publishers and the end of the topic wake `signal`.
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

    /// Adds a publisher to a topic. Subscribers that join or leave wake `signal`.
    ///
    /// # Errors
    /// [`Refusal`].
    fn publish(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn PublisherPort>, Refusal>;
}

/// The readers of one subscription. Dropping it leaves the topic.
///
/// # Safety
/// - Every reader belongs to a channel of the subscription's topic, and nobody else has it.
/// - [`is_unsealed`](Self::is_unsealed) always returns the same value. If that is `false`, no component can
///   write into a published message of the topic.
pub unsafe trait SubscriptionSource: Send {
    /// The reader of the next publisher that was not returned before. Cheap if there is none.
    fn next_joined(&mut self) -> Option<Result<Reader, JoinError>>;

    /// Whether guests may keep writing into messages that they have published to the topic.
    fn is_unsealed(&self) -> bool {
        false
    }

    /// Whether the topic may still get publishers: `false` once it had publishers and the last one has left,
    /// or when the broker shuts down.
    fn is_open(&self) -> bool;
}

/// The writer of one publisher, and the checks of its messages. Dropping it ends the channel.
///
/// # Safety
/// - [`writer`](Self::writer) always returns the same writer, and nothing else uses it while the port lives.
///   The component gets write access to that writer's blocks.
/// - The [`layout`](Checks::layout) check belongs to the schema of the writer's channel: it accepts only
///   bytes that every [`Payload`](blockcast_blocks::Payload) of that schema may
///   [view](blockcast_blocks::Payload::view).
/// - [`is_unsealed`](Self::is_unsealed) always returns the same value. If that is `true`, no native code
///   subscribes to the channel.
pub unsafe trait PublisherPort: Send {
    /// The writer, and the checks of the messages published through it.
    fn writer(&mut self) -> (&mut Writer, Checks<'_>);

    /// The number of the topic's subscriptions now.
    fn subscribers(&self) -> u32;

    /// Whether the topic's owner lets guests keep writing into messages that they have published. Only
    /// possible if no native code subscribes.
    fn is_unsealed(&self) -> bool {
        false
    }
}

// SAFETY: the box forwards every call to one port, which keeps the promises.
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
