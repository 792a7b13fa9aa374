//! The topics that one guest reaches: [`GrantedTopics`] joins the wasm host to the broker's topics.

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

impl Exchange for GrantedTopics {
    fn subscribe(
        &self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn Feed>, Refusal> {
        self.grants.may_subscribe(topic).map_err(|error| refusal(&error))?;
        let topic = self.open(topic, schema)?;
        let subscription = topic.subscribe(options, Arc::clone(signal)).map_err(|error| refusal(&error))?;
        Ok(Box::new(GuestFeed { subscription, unsealed: topic.is_unsealed() }))
    }

    fn publish(
        &self,
        topic: &str,
        schema: &Schema,
        options: BlockOptions,
        signal: &Arc<Signal>,
    ) -> Result<Box<dyn Outlet>, Refusal> {
        self.grants.may_publish(topic).map_err(|error| refusal(&error))?;
        let options = PublisherOptions::new()
            .block_size(options.block_size as usize)
            .blocks(options.blocks)
            .history(options.history);
        let joined = self.shared.publish(self.open(topic, schema)?, options, Arc::clone(signal), None);
        let (topic, writer) = joined.map_err(|error| refusal(&error))?;
        Ok(Box::new(GuestOutlet { topic, writer, validator: None }))
    }
}

struct GuestFeed {
    subscription: Subscription,
    unsealed: bool,
}

impl Feed for GuestFeed {
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

struct GuestOutlet {
    topic: Arc<Topic>,
    writer: Writer,
    validator: Option<Validator>,
}

impl Outlet for GuestOutlet {
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
    tracing::warn!(%error, "a guest was refused a topic");
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
