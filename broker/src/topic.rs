//! [`Topic`]: a name and a schema, and who takes part.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use blockcast_blocks::{
    ArenaMemory, Channel, JoinError, OpenError, PublisherId, ReaderOptions, Schema, Signal, Writer,
    channel_over, channel_with,
};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{Subscription, SubscriptionFeed, subscription_with};

use crate::guest::{Checks, Validator};
use crate::stats::{Departed, TopicStats};

/// The participants of one topic. On nobody's path: publishers and subscribers meet in their channels.
pub(crate) struct Topic {
    name: Arc<str>,
    schema: Schema,
    /// Guests may go on writing into what they have published.
    unsealed: bool,
    /// The schema's own check, once a typed participant of this process has brought it.
    layout: OnceLock<Validator>,
    /// The program's own rule for what components publish.
    rule: OnceLock<Validator>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    /// Of publishers that are there.
    channels: Vec<Arc<Channel>>,
    /// Of publishers that have left; alive while somebody reads or holds what they published.
    departed: Vec<Weak<Channel>>,
    /// What they published.
    totals: Departed,
    /// Of subscriptions that are there.
    subscriptions: Vec<Registration>,
    closed: bool,
}

struct Registration {
    feed: SubscriptionFeed,
    options: ReaderOptions,
}

impl Topic {
    pub(crate) fn new(name: &str, schema: Schema) -> Result<Self, OpenError> {
        OpenError::check_name(name)?;
        Ok(Self {
            name: name.into(),
            schema,
            unsealed: false,
            layout: OnceLock::new(),
            rule: OnceLock::new(),
            members: Mutex::default(),
        })
    }

    /// The topic, in which guests may go on writing into what they have published.
    pub(crate) fn unsealed(self) -> Self {
        Self { unsealed: true, ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_unsealed(&self) -> bool {
        self.unsealed
    }

    /// # Errors
    /// If a participant's schema is another one.
    pub(crate) fn admits(&self, schema: &Schema) -> Result<(), OpenError> {
        if *schema == self.schema {
            return Ok(());
        }
        Err(OpenError::SchemaMismatch {
            topic: self.name.to_string(),
            existing: Some(self.schema.clone()),
            asked: schema.clone(),
        })
    }

    /// Learns how bytes of the schema are checked, from the first typed participant in this process. `check` is that of a
    /// [`Payload`](blockcast_blocks::Payload) with the topic's schema.
    pub(crate) fn learn_layout(&self, check: fn() -> Validator) {
        self.layout.get_or_init(check);
    }

    /// Adds the program's own rule for what components publish.
    ///
    /// # Errors
    /// [`OpenError::Refused`] if the topic has another rule.
    pub(crate) fn set_rule(&self, rule: Validator) -> Result<(), OpenError> {
        if Arc::ptr_eq(self.rule.get_or_init(|| Arc::clone(&rule)), &rule) {
            return Ok(());
        }
        Err(OpenError::Refused(format!("topic {:?} was declared with another rule", self.name)))
    }

    /// What a message of a component is checked against.
    #[inline]
    pub(crate) fn checks(&self) -> Checks<'_> {
        Checks { layout: self.layout.get(), rule: self.rule.get() }
    }

    /// Adds a publisher. Every subscription of the topic has joined its channel before this returns, so
    /// that nothing is published past anybody.
    pub(crate) fn publish(
        self: &Arc<Self>,
        id: PublisherId,
        options: &PublisherOptions,
        signal: Arc<Signal>,
        memory: Option<ArenaMemory>,
    ) -> Result<Writer, OpenError> {
        let mut config = options.channel(id, self.schema.clone());
        let mut members = self.open_members()?;
        members.prune();
        // Whoever is there takes part: otherwise a subscriber could keep publishers out by being there often enough.
        let there = u32::try_from(members.subscriptions.len()).unwrap_or(u32::MAX);
        if config.max_subscribers > 0 {
            config.max_subscribers = config.max_subscribers.max(there);
        }
        let made = match memory {
            Some(memory) => channel_over(config, signal, memory),
            None => channel_with(config, signal),
        };
        let mut writer =
            made.map_err(|reason| OpenError::Channel { topic: self.name.to_string(), reason })?;
        let channel = Arc::clone(writer.channel());
        let join = |registration: &Registration| {
            self.join(&channel, registration.options, registration.feed.signal())
        };
        // All or none: a publisher that does not come into being is nobody's.
        let readers = members.subscriptions.iter().map(join).collect::<Result<Vec<_>, _>>()?;
        for (registration, reader) in members.subscriptions.iter().zip(readers) {
            registration.feed.add(reader);
        }
        tracing::info!(topic = &*self.name, publisher = %id, "publisher joined");
        let (topic, left) = (Arc::downgrade(self), Arc::downgrade(&channel));
        writer.on_departure(move || {
            if let (Some(topic), Some(channel)) = (topic.upgrade(), left.upgrade()) {
                topic.publisher_left(&channel);
            }
        });
        members.channels.push(channel);
        Ok(writer)
    }

    /// Adds a subscription to all publishers of the topic, those that come later included.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        options: ReaderOptions,
        signal: Arc<Signal>,
    ) -> Result<Subscription, OpenError> {
        let (feed, subscription) = subscription_with(signal);
        let mut members = self.open_members()?;
        members.prune();
        for channel in &members.channels {
            match channel.join(&self.schema, options, Arc::clone(feed.signal())) {
                Ok(reader) => drop(feed.add(reader)),
                // It left just now.
                Err(JoinError::Ended) => {}
                Err(reason) => return Err(self.refused(reason)),
            }
        }
        let topic = Arc::downgrade(self);
        feed.on_departure(move || {
            if let Some(topic) = topic.upgrade() {
                topic.subscriber_left();
            }
        });
        tracing::info!(topic = &*self.name, publishers = members.channels.len(), "subscriber joined");
        members.subscriptions.push(Registration { feed, options });
        Ok(subscription)
    }

    /// Lets go of the memory of those who have left, as far as nobody reads it.
    pub(crate) fn tidy(&self) {
        self.members().prune();
    }

    /// Lets nobody join any more. Subscriptions end when the publishers that are there have gone.
    pub(crate) fn close(&self) {
        let mut members = self.members();
        members.closed = true;
        members.subscriptions.clear();
    }

    pub(crate) fn stats(&self) -> TopicStats {
        let mut members = self.members();
        members.prune();
        TopicStats {
            name: self.name.to_string(),
            schema: self.schema.clone(),
            subscriptions: members.subscriptions.len(),
            publishers: members.channels.iter().map(|channel| channel.stats()).collect(),
            departed: members.totals,
        }
    }

    fn join(
        &self,
        channel: &Arc<Channel>,
        options: ReaderOptions,
        signal: &Arc<Signal>,
    ) -> Result<blockcast_blocks::Reader, OpenError> {
        channel.join(&self.schema, options, Arc::clone(signal)).map_err(|reason| self.refused(reason))
    }

    fn refused(&self, reason: JoinError) -> OpenError {
        OpenError::Join { topic: self.name.to_string(), reason }
    }

    /// Gives up what a publisher that has left leaves behind and nobody needs, whether its subscribers look or not.
    fn publisher_left(&self, channel: &Arc<Channel>) {
        let feeds: Vec<_> = {
            let mut members = self.members();
            members.count_departed();
            members.subscriptions.iter().map(|registration| registration.feed.clone()).collect()
        };
        // Not under the lock: this wakes subscribers.
        feeds.iter().for_each(|feed| feed.forget_ended(channel));
    }

    /// Forgets a subscription that has left.
    fn subscriber_left(&self) {
        let mut members = self.members();
        let gone = |registration: &mut Registration| registration.feed.is_closed();
        let left: Vec<_> = members.subscriptions.extract_if(.., gone).collect();
        drop(members);
        drop(left);
    }

    fn open_members(&self) -> Result<MutexGuard<'_, Members>, OpenError> {
        let members = self.members();
        if members.closed { Err(OpenError::Closed) } else { Ok(members) }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Every change of the members is complete before anything can panic, so a poisoned lock is sound.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    /// Forgets who has left.
    fn prune(&mut self) {
        self.subscriptions.retain(|registration| !registration.feed.is_closed());
        self.count_departed();
        self.departed.retain(|channel| channel.strong_count() > 0);
        self.totals.attached = self.departed.len();
    }

    /// Lets go of the channels of publishers that have left.
    fn count_departed(&mut self) {
        for channel in self.channels.extract_if(.., |channel| channel.is_closed()) {
            let stats = channel.stats();
            self.totals.publishers += 1;
            self.totals.published += stats.published;
            self.totals.bytes += stats.bytes;
            self.departed.push(Arc::downgrade(&channel));
        }
    }
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name)
            .field("unsealed", &self.unsealed)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members")
            .field("channels", &self.channels.len())
            .field("subscriptions", &self.subscriptions.len())
            .finish_non_exhaustive()
    }
}
