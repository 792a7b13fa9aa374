//! The topics that one component reaches: [`GrantedTopics`] joins the hosts of guests and libraries to the broker's topics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use blockcast_blocks::{JoinError, OpenError, Reader, ReaderOptions, Schema, Signal, Writer};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::Subscription;

use crate::broker::Shared;
use crate::grants::Grants;
use crate::guest::{BlockOptions, Exchange, Feed, Outlet, Refusal, Validator};
use crate::topic::Topic;

/// A broker's topics as far as they are granted.
pub(crate) struct GrantedTopics {
    shared: Arc<Shared>,
    grants: Grants,
    /// Topics that it has created.
    created: AtomicU32,
}

impl GrantedTopics {
    pub(crate) fn new(shared: Arc<Shared>, grants: Grants) -> Self {
        Self { shared, grants, created: AtomicU32::new(0) }
    }

    /// A topic that is there, or is made if the guest may do that.
    fn open(&self, topic: &str, schema: &Schema) -> Result<Arc<Topic>, Refusal> {
        let limit = self.grants.guest_limits().topics;
        let mut too_many = false;
        let opened = self.shared.open_topic(topic, schema, None, &mut || {
            let count = |created: u32| (created < limit).then(|| created + 1);
            too_many = self.created.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_err();
            !too_many
        });
        opened.map_err(|error| if too_many { Refusal::Topics } else { refusal(&error) })
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
    ) -> Result<TopicFeed, Refusal> {
        self.grants.may_subscribe(topic).map_err(|error| refusal(&error))?;
        let topic = self.open(topic, schema)?;
        let subscription = topic.subscribe(options, Arc::clone(signal)).map_err(|error| refusal(&error))?;
        Ok(TopicFeed { subscription, unsealed: topic.is_unsealed() })
    }

    /// Adds a publisher to a topic. `signal` is woken when subscribers join or leave, and when a block that is waited for
    /// comes free.
    pub(crate) fn outlet(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
        signal: Arc<Signal>,
    ) -> Result<TopicOutlet, Refusal> {
        self.grants.may_publish(topic).map_err(|error| refusal(&error))?;
        let joined = self.shared.publish(self.open(topic, schema)?, options, signal, None);
        let (topic, writer) = joined.map_err(|error| refusal(&error))?;
        Ok(TopicOutlet { topic, writer, validator: None })
    }
}

impl Exchange for GrantedTopics {
    fn subscribe(
        &self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn Feed>, Refusal> {
        Ok(Box::new(self.feed(topic, schema, options, signal)?))
    }

    fn publish(
        &self,
        topic: &str,
        schema: &Schema,
        options: BlockOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn Outlet>, Refusal> {
        let options = PublisherOptions::new()
            .block_size(options.block_size as usize)
            .blocks(options.blocks)
            .history(options.history);
        Ok(Box::new(self.outlet(topic, schema, options, Arc::clone(signal))?))
    }
}

/// A component's subscription to a topic.
pub(crate) struct TopicFeed {
    subscription: Subscription,
    unsealed: bool,
}

impl Feed for TopicFeed {
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
pub(crate) struct TopicOutlet {
    topic: Arc<Topic>,
    writer: Writer,
    validator: Option<Validator>,
}

impl Outlet for TopicOutlet {
    #[inline]
    fn writer(&mut self) -> (&mut Writer, Option<&Validator>) {
        if self.validator.is_none() {
            self.validator = self.topic.validator();
        }
        (&mut self.writer, self.validator.as_ref())
    }

    fn subscribers(&self) -> u32 {
        self.writer.subscriber_count()
    }

    fn is_unsealed(&self) -> bool {
        self.topic.is_unsealed()
    }
}

fn refusal(error: &OpenError) -> Refusal {
    tracing::warn!(%error, "a component was refused a topic");
    match error {
        OpenError::Denied { .. } => Refusal::Denied,
        OpenError::SchemaMismatch { .. } => Refusal::SchemaMismatch,
        OpenError::Channel { reason: blockcast_blocks::ChannelError::Config(_), .. } => Refusal::WrongSize,
        OpenError::Join { .. } => Refusal::Limit,
        OpenError::BadName(_) => Refusal::Denied,
        OpenError::Closed => Refusal::Closed,
        _ => Refusal::Internal,
    }
}
