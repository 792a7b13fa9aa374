//! The topics that one component may use: [`GrantedTopics`] connects the hosts of guests and libraries to the
//! broker's topics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use blockcast_blocks::shield::event;
use blockcast_blocks::{
    ChannelError, JoinError, OpenError, Reader, ReaderOptions, Schema, Signal, Writer, text,
};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::Subscription;

use crate::control::expectation::RestartExpectation;
use crate::control::grants::Grants;
use crate::control::shared::Shared;
use crate::control::topic::Topic;
use crate::hosting::meter::{Admission, LineRate};
use crate::hosting::topic_access::{Checks, PublisherPort, Refusal, SubscriptionSource, TopicAccess};

/// A broker's topics, restricted to those that one component was granted.
pub(crate) struct GrantedTopics {
    shared: Arc<Shared>,
    grants: Grants,
    /// Topics to which the component may publish again after a restart.
    expectation: Arc<RestartExpectation>,
    /// Whether the component's subscriptions wait for restarts.
    await_restarts: bool,
    /// Topics that the component has created. Some may no longer exist.
    created: Mutex<Vec<Weak<Topic>>>,
    /// Limits the lines in the host's log about refusals, which the component can provoke at any rate.
    lines: LineRate,
    /// For each topic that the component subscribes to, the permit that its subscriptions have cloned.
    subscribed: Mutex<BTreeMap<String, SubscriptionPermit>>,
}

/// Permits one subscription of a component to a topic. The number of clones is the number of its
/// subscriptions.
#[derive(Clone, Debug, Default)]
struct SubscriptionPermit(Arc<()>);

impl GrantedTopics {
    pub(crate) fn new(
        shared: Arc<Shared>,
        grants: Grants,
        expectation: Arc<RestartExpectation>,
        await_restarts: bool,
    ) -> Self {
        let lines = LineRate::new(grants.get_limits().log_lines);
        let (created, subscribed) = Default::default();
        Self { shared, grants, expectation, await_restarts, created, lines, subscribed }
    }

    /// Opens a topic, and creates it if it does not exist and the component may create another one.
    fn open(&self, topic: &str, schema: &Schema) -> Result<Arc<Topic>, Refusal> {
        let limit = self.grants.get_limits().topics as usize;
        let mut swept = false;
        loop {
            let mut too_many = false;
            let opened = self.shared.open_topic(topic, schema, None, &mut |topic| {
                // A panic under the lock leaves a valid list of topics.
                let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
                created.retain(|topic| topic.strong_count() > 0);
                too_many = created.len() >= limit;
                if !too_many {
                    created.push(Arc::downgrade(topic));
                }
                !too_many
            });
            match opened {
                // Some of the topics may have no participants left.
                Err(_) if too_many && !swept && limit > 0 => {
                    self.shared.sweep();
                    swept = true;
                }
                Err(_) if too_many => return Err(Refusal::Topics),
                opened => return opened.map_err(|error| self.refusal(&error)),
            }
        }
    }

    /// Logs a warning about the component and a topic, at most as often as the component may log lines.
    pub(crate) fn warn(&self, topic: &str, what: &str) {
        if !matches!(self.lines.admit(), Admission::Dropped) {
            event(|| tracing::warn!(topic = &*text::line(topic), "{what}"));
        }
    }

    fn refusal(&self, error: &OpenError) -> Refusal {
        if !matches!(self.lines.admit(), Admission::Dropped) {
            let error = error.to_string();
            event(|| tracing::warn!(error = &*text::line(&error), "a component was refused a topic"));
        }
        match error {
            OpenError::Denied { .. } => Refusal::Denied,
            OpenError::SchemaMismatch { .. } => Refusal::SchemaMismatch,
            OpenError::Channel { reason: ChannelError::Config(_), .. } => Refusal::WrongSize,
            OpenError::Channel {
                reason: ChannelError::FileSize { .. } | ChannelError::Mappings { .. },
                ..
            } => Refusal::Limit,
            OpenError::Join { .. } => Refusal::Limit,
            OpenError::BadName(_) => Refusal::Denied,
            OpenError::Closed => Refusal::Closed,
            _ => Refusal::Internal,
        }
    }

    /// Permits one more subscription to `topic`, unless the component has as many as it may. Dropping the
    /// permit returns it.
    fn permit(&self, topic: &str) -> Result<SubscriptionPermit, Refusal> {
        let limit = self.grants.get_limits().subscriptions_per_topic;
        // A panic under the lock leaves valid permits.
        let mut subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        // Permits are issued under the lock and returned without it: the count may be too high, but never too
        // low.
        subscribed.retain(|_, permit| Arc::strong_count(&permit.0) > 1);
        let issued = subscribed.get(topic).map_or(0, |permit| Arc::strong_count(&permit.0) - 1);
        if issued >= limit as usize {
            return Err(Refusal::SubscriptionsPerTopic);
        }
        Ok(subscribed.entry(topic.to_owned()).or_default().clone())
    }
}

impl GrantedTopics {
    /// Subscribes to a topic. Messages, joining publishers and the topic's end wake `signal`.
    pub(crate) fn source(
        &self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<TopicSource, Refusal> {
        self.grants.may_subscribe(topic).map_err(|error| self.refusal(&error))?;
        let permit = self.permit(topic)?;
        let topic = self.open(topic, schema)?;
        let subscription = topic.subscribe(options, Arc::clone(signal), self.await_restarts);
        let subscription = subscription.map_err(|error| self.refusal(&error))?;
        Ok(TopicSource { subscription, unsealed: topic.is_unsealed(), _permit: permit })
    }

    /// Adds a publisher to a topic. `signal` is woken when subscribers join or leave, and when a block
    /// becomes free for which the component waits.
    pub(crate) fn port(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
        signal: Arc<Signal>,
    ) -> Result<TopicPort, Refusal> {
        self.grants.may_publish(topic).map_err(|error| self.refusal(&error))?;
        let topic = self.open(topic, schema)?;
        self.expectation.note(&topic);
        let joined = self.shared.publish(topic, options, signal, None);
        let (topic, writer) = joined.map_err(|error| self.refusal(&error))?;
        Ok(TopicPort { writer, topic: TidiedTopic(topic) })
    }
}

// SAFETY: readers and writers come from the topic of that name, which has admitted the schema. Whether a
// topic is unsealed is decided when it is created, and the broker refuses native subscribers of an unsealed
// topic.
unsafe impl TopicAccess for GrantedTopics {
    fn subscribe(
        &self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn SubscriptionSource>, Refusal> {
        Ok(Box::new(self.source(topic, schema, options, signal)?))
    }

    fn publish(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn PublisherPort>, Refusal> {
        Ok(Box::new(self.port(topic, schema, options, Arc::clone(signal))?))
    }
}

/// A component's subscription to a topic.
pub(crate) struct TopicSource {
    // Dropped in this order: the permit is returned after the subscription has left the topic.
    subscription: Subscription,
    unsealed: bool,
    _permit: SubscriptionPermit,
}

// SAFETY: the readers come from the topic's subscription, which nobody else shares. The host seals what
// components publish unless the topic is unsealed.
unsafe impl SubscriptionSource for TopicSource {
    fn next_joined(&mut self) -> Option<Result<Reader, JoinError>> {
        self.subscription.next_arrival().map(Ok)
    }

    fn is_open(&self) -> bool {
        self.subscription.awaits_publisher()
    }

    fn is_unsealed(&self) -> bool {
        self.unsealed
    }
}

/// A component's publisher of a topic.
pub(crate) struct TopicPort {
    // Dropped in this order: the topic then drops the closed channel, so that it is no longer charged to the
    // component unless somebody still reads it.
    writer: Writer,
    topic: TidiedTopic,
}

/// The topic of a publisher. It is tidied after the publisher has left.
struct TidiedTopic(Arc<Topic>);

impl Drop for TidiedTopic {
    fn drop(&mut self) {
        self.0.tidy();
    }
}

impl TopicPort {
    /// Messages published and their bytes, whether the host or the component itself published them.
    pub(crate) fn published(&self) -> (u64, u64) {
        self.writer.published()
    }
}

// SAFETY: the port has one writer and shares it with nobody. The topic takes its layout's check only from a
// `Payload` of its schema, and payloads of one schema agree on what is valid. The broker refuses native
// subscribers of an unsealed topic.
unsafe impl PublisherPort for TopicPort {
    #[inline]
    fn writer(&mut self) -> (&mut Writer, Checks<'_>) {
        (&mut self.writer, self.topic.0.checks())
    }

    fn subscribers(&self) -> u32 {
        self.writer.subscriber_count()
    }

    fn is_unsealed(&self) -> bool {
        self.topic.0.is_unsealed()
    }
}
