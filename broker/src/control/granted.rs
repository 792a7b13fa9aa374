//! The topics that one component reaches: [`GrantedTopics`] joins the hosts of guests and libraries to the broker's topics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use blockcast_blocks::shield::event;
use blockcast_blocks::{
    ChannelError, JoinError, OpenError, Reader, ReaderOptions, Schema, Signal, Writer, text,
};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::Subscription;

use crate::control::broker::Shared;
use crate::control::expectation::Returns;
use crate::control::grants::Grants;
use crate::control::topic::Topic;
use crate::hosting::meter::{Admission, LineGate};
use crate::hosting::topic_access::{
    BlockOptions, Checks, PublisherPort, Refusal, SubscriptionSource, TopicAccess,
};

/// A broker's topics as far as they are granted.
pub(crate) struct GrantedTopics {
    shared: Arc<Shared>,
    grants: Grants,
    /// Which topics a restart brings back to publish to.
    returns: Arc<Returns>,
    /// Its subscriptions wait for restarts.
    await_restarts: bool,
    /// Topics that it has created, and some of them that are gone.
    created: Mutex<Vec<Weak<Topic>>>,
    /// Lines of the host's log about what it was refused, which it can cause as often as it likes.
    lines: LineGate,
    /// The topics that it subscribes to: of each the [place](Place) that its subscriptions are clones of.
    subscribed: Mutex<BTreeMap<String, Place>>,
}

/// A subscription among those of one component to one topic. There are as many as it has clones.
#[derive(Clone, Debug, Default)]
struct Place(Arc<()>);

impl GrantedTopics {
    pub(crate) fn new(
        shared: Arc<Shared>,
        grants: Grants,
        returns: Arc<Returns>,
        await_restarts: bool,
    ) -> Self {
        let lines = LineGate::new(grants.guest_limits().log_lines);
        let (created, subscribed) = Default::default();
        Self { shared, grants, returns, await_restarts, created, lines, subscribed }
    }

    /// A topic that is there, or is made if the guest may do that.
    fn open(&self, topic: &str, schema: &Schema) -> Result<Arc<Topic>, Refusal> {
        let limit = self.grants.guest_limits().topics as usize;
        let mut swept = false;
        loop {
            let mut too_many = false;
            let opened = self.shared.open_topic(topic, schema, None, &mut |topic| {
                // Whatever panics while it is locked leaves topics.
                let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
                created.retain(|topic| topic.strong_count() > 0);
                too_many = created.len() >= limit;
                if !too_many {
                    created.push(Arc::downgrade(topic));
                }
                !too_many
            });
            match opened {
                // There may be some among them in which nobody takes part any more.
                Err(_) if too_many && !swept && limit > 0 => {
                    self.shared.sweep();
                    swept = true;
                }
                Err(_) if too_many => return Err(Refusal::Topics),
                opened => return opened.map_err(|error| self.refusal(&error)),
            }
        }
    }

    /// Tells the host's log of something about the component and a topic, as often as the component may log lines.
    pub(crate) fn warn(&self, topic: &str, what: &str) {
        if !matches!(self.lines.line(), Admission::Dropped) {
            event(|| tracing::warn!(topic = &*text::line(topic), "{what}"));
        }
    }

    fn refusal(&self, error: &OpenError) -> Refusal {
        if !matches!(self.lines.line(), Admission::Dropped) {
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

    /// A place for one more subscription of `topic`, while there is one. It is free again when it is dropped.
    fn place(&self, topic: &str) -> Result<Place, Refusal> {
        let limit = self.grants.guest_limits().subscriptions_per_topic;
        // Whatever panics while it is locked leaves places.
        let mut subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        // Places are taken under the lock, and given back without: there may be fewer than are counted, and never more.
        subscribed.retain(|_, place| Arc::strong_count(&place.0) > 1);
        let taken = subscribed.get(topic).map_or(0, |place| Arc::strong_count(&place.0) - 1);
        if taken >= limit as usize {
            return Err(Refusal::SubscriptionsPerTopic);
        }
        Ok(subscribed.entry(topic.to_owned()).or_default().clone())
    }
}

impl GrantedTopics {
    /// Subscribes to a topic. `signal` is woken by messages, by publishers that join and by the end.
    pub(crate) fn feed(
        &self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<TopicSource, Refusal> {
        self.grants.may_subscribe(topic).map_err(|error| self.refusal(&error))?;
        let place = self.place(topic)?;
        let topic = self.open(topic, schema)?;
        let subscription = topic.subscribe(options, Arc::clone(signal), self.await_restarts);
        let subscription = subscription.map_err(|error| self.refusal(&error))?;
        Ok(TopicSource { subscription, unsealed: topic.is_unsealed(), _place: place })
    }

    /// Adds a publisher to a topic. `signal` is woken when subscribers join or leave, and when a block that is waited for
    /// comes free.
    pub(crate) fn outlet(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
        signal: Arc<Signal>,
    ) -> Result<TopicPort, Refusal> {
        self.grants.may_publish(topic).map_err(|error| self.refusal(&error))?;
        let topic = self.open(topic, schema)?;
        self.returns.note(&topic);
        let joined = self.shared.publish(topic, options, signal, None);
        let (topic, writer) = joined.map_err(|error| self.refusal(&error))?;
        Ok(TopicPort { writer, topic: Left(topic) })
    }
}

// SAFETY: readers and writers come from the topic of that name, which has admitted the schema; whether a topic is unsealed
// is decided when it is made, and the broker refuses native subscribers of an unsealed one.
unsafe impl TopicAccess for GrantedTopics {
    fn subscribe(
        &self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn SubscriptionSource>, Refusal> {
        Ok(Box::new(self.feed(topic, schema, options, signal)?))
    }

    fn publish(
        &self,
        topic: &str,
        schema: &Schema,
        options: BlockOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn PublisherPort>, Refusal> {
        let options = PublisherOptions::new()
            .block_size(options.block_size as usize)
            .blocks(options.blocks)
            .history(options.history);
        Ok(Box::new(self.outlet(topic, schema, options, Arc::clone(signal))?))
    }
}

/// A component's subscription to a topic.
pub(crate) struct TopicSource {
    // Dropped in this order: the place is free when the topic was left.
    subscription: Subscription,
    unsealed: bool,
    _place: Place,
}

// SAFETY: the readers come from the topic's subscription, which alone has them. The host seals what components publish
// unless the topic is unsealed.
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
    // Dropped in this order: the topic lets go of the channel once it is closed, so that its charge ends if nobody reads it.
    writer: Writer,
    topic: Left,
}

/// The topic of a publisher, which is tidied when the publisher has left.
struct Left(Arc<Topic>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.tidy();
    }
}

impl TopicPort {
    /// Messages that were published and their bytes, whoever has published them.
    pub(crate) fn published(&self) -> (u64, u64) {
        self.writer.published()
    }
}

// SAFETY: the outlet has one writer, which it shares with nobody. The topic takes its layout's check from a `Payload` of its
// schema only, and payloads of one schema agree on what is valid. The broker refuses native subscribers of an unsealed topic.
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
