//! [`Topic`]: a name and a schema, and who takes part.
//!
//! Wakers, tracing layers and destructors are code of the user, which may call back. So whatever calls them happens when the
//! members are not locked any more: readers are joined and added quietly and announced afterwards, and who has left is
//! dropped afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use blockcast_blocks::shield::event;
use blockcast_blocks::{
    ArenaMemory, Channel, JoinError, OpenError, PublisherId, ReaderOptions, Schema, Signal, Writer,
    channel_over, channel_with,
};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{ExpectedPublishers, Subscription, SubscriptionFeed, subscription_awaiting};

use crate::control::stats::{Departed, TopicStats};
use crate::hosting::topic_access::{Checks, Validator};

/// The participants of one topic. On nobody's path: publishers and subscribers meet in their channels.
pub(crate) struct Topic {
    name: Arc<str>,
    schema: Schema,
    /// Guests may go on writing into what they have published.
    unsealed: bool,
    /// It stays although nobody takes part.
    kept: AtomicBool,
    /// Publishers that may come back.
    expected: Arc<ExpectedPublishers>,
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
    subscriptions: Vec<Arc<Registration>>,
    closed: bool,
}

struct Registration {
    feed: SubscriptionFeed,
    options: ReaderOptions,
}

/// Participants that have left, to be dropped when nothing is locked any more.
type Gone = (Vec<Arc<Registration>>, Vec<Arc<Channel>>);

/// Subscriptions of a topic at most, so that a publisher can serve all of them.
const MAX_SUBSCRIPTIONS: usize = 65_536;

impl Topic {
    pub(crate) fn new(name: &str, schema: Schema) -> Result<Self, OpenError> {
        OpenError::check_name(name)?;
        Ok(Self {
            name: name.into(),
            schema,
            unsealed: false,
            kept: AtomicBool::new(false),
            expected: Arc::default(),
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

    /// Whether the topic stays although nobody takes part.
    pub(crate) fn keep(&self, kept: bool) {
        // Ordering: read under the lock of the broker's topics, while nobody else has a reference.
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Whether nobody takes part in a topic that was not declared to stay. Reliable if nobody else has a reference to it.
    pub(crate) fn is_unused(&self) -> bool {
        if self.kept.load(Ordering::Relaxed) {
            return false;
        }
        let members = self.members();
        members.channels.iter().all(|channel| channel.is_closed())
            && members.subscriptions.iter().all(|registration| registration.feed.is_closed())
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
    pub(crate) fn set_rule(&self, rule: &Validator) -> Result<(), OpenError> {
        if Arc::ptr_eq(self.rule.get_or_init(|| Arc::clone(rule)), rule) {
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
        self.tidy();
        let mut config = options.channel(id, self.schema.clone());
        // What is declared before the lock is dropped after it.
        let (mut joined, mut refused) = (Vec::new(), Vec::new());
        let mut writer;
        {
            let mut members = self.open_members()?;
            // Whoever is there takes part: otherwise a subscriber could keep publishers out by being there often enough.
            let there = u32::try_from(members.subscriptions.len()).unwrap_or(u32::MAX);
            if config.max_subscribers > 0 {
                config.max_subscribers = config.max_subscribers.max(there);
            }
            let made = match memory {
                Some(memory) => channel_over(config, signal, memory),
                None => channel_with(config, signal),
            };
            writer = made.map_err(|reason| OpenError::Channel { topic: self.name.to_string(), reason })?;
            let channel = writer.channel();
            // All or none: a publisher that does not come into being is nobody's.
            for registration in &members.subscriptions {
                let reader = channel.join_quietly(
                    &self.schema,
                    registration.options,
                    Arc::clone(registration.feed.signal()),
                );
                joined.push((Arc::clone(registration), Some(reader.map_err(|reason| self.refused(reason))?)));
            }
            for (registration, reader) in &mut joined {
                refused.extend(reader.take().and_then(|reader| registration.feed.add_quietly(reader)));
            }
            members.channels.push(Arc::clone(channel));
        }
        let channel = Arc::clone(writer.channel());
        channel.arena().report_pages();
        for (registration, _) in joined {
            channel.announce(registration.feed.signal());
            registration.feed.ring();
        }
        let (topic, left) = (Arc::downgrade(self), Arc::downgrade(&channel));
        writer.on_departure(move || {
            if let (Some(topic), Some(channel)) = (topic.upgrade(), left.upgrade()) {
                topic.publisher_left(&channel);
            }
        });
        event(|| tracing::info!(topic = &*self.name, publisher = %id, "publisher joined"));
        Ok(writer)
    }

    /// Adds a subscription to all publishers of the topic, those that come later included. With `await_restarts` it does not
    /// end while there are publishers that may [come back](Self::expect).
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        options: ReaderOptions,
        signal: Arc<Signal>,
        await_restarts: bool,
    ) -> Result<Subscription, OpenError> {
        self.tidy();
        let expected = await_restarts.then(|| Arc::clone(&self.expected));
        let (feed, subscription) = subscription_awaiting(signal, expected);
        let registration = Arc::new(Registration { feed, options });
        let feed = &registration.feed;
        // What is declared before the lock is dropped after it.
        let (mut readers, mut channels) = (Vec::new(), Vec::new());
        {
            let mut members = self.open_members()?;
            if members.subscriptions.len() >= MAX_SUBSCRIPTIONS {
                return Err(self.refused(JoinError::Full { limit: MAX_SUBSCRIPTIONS as u32 }));
            }
            for channel in &members.channels {
                match channel.join_quietly(&self.schema, options, Arc::clone(feed.signal())) {
                    Ok(reader) => {
                        readers.push(reader);
                        channels.push(Arc::clone(channel));
                    }
                    // It left just now.
                    Err(JoinError::Ended) => {}
                    Err(reason) => return Err(self.refused(reason)),
                }
            }
            // The subscription is ours, so none is refused.
            let refused: Vec<_> = readers.drain(..).filter_map(|reader| feed.add_quietly(reader)).collect();
            readers.extend(refused);
            members.subscriptions.push(Arc::clone(&registration));
        }
        for channel in &channels {
            channel.announce(feed.signal());
        }
        let topic = Arc::downgrade(self);
        feed.on_departure(move || {
            if let Some(topic) = topic.upgrade() {
                topic.subscriber_left();
            }
        });
        event(|| tracing::info!(topic = &*self.name, publishers = channels.len(), "subscriber joined"));
        Ok(subscription)
    }

    /// Lets go of the memory of those who have left, as far as nobody reads it.
    pub(crate) fn tidy(&self) {
        // Dropped when the members are not locked any more.
        let _gone = self.members().prune();
    }

    /// Keeps subscriptions that wait for restarts from ending, until as many calls of [`forget`](Self::forget).
    pub(crate) fn expect(&self) {
        self.expected.expect();
    }

    /// A publisher that was expected does not come back.
    pub(crate) fn forget(&self) {
        self.expected.forget();
        let there: Vec<_> = self.members().subscriptions.clone();
        for registration in there {
            registration.feed.ring();
        }
    }

    /// Lets nobody join any more. Subscriptions end when the publishers that are there have gone.
    pub(crate) fn close(&self) {
        let _left = {
            let mut members = self.members();
            members.closed = true;
            std::mem::take(&mut members.subscriptions)
        };
    }

    pub(crate) fn stats(&self) -> TopicStats {
        self.tidy();
        let (channels, subscriptions, departed) = {
            let members = self.members();
            (members.channels.clone(), members.subscriptions.len(), members.totals)
        };
        TopicStats {
            name: self.name.to_string(),
            schema: self.schema.clone(),
            subscriptions,
            publishers: channels.iter().map(|channel| channel.stats()).collect(),
            departed,
        }
    }

    fn refused(&self, reason: JoinError) -> OpenError {
        OpenError::Join { topic: self.name.to_string(), reason }
    }

    /// Gives up what a publisher that has left leaves behind and nobody needs, whether its subscribers look or not.
    fn publisher_left(&self, channel: &Arc<Channel>) {
        let (there, _gone) = {
            let mut members = self.members();
            let gone = members.count_departed();
            (members.subscriptions.clone(), gone)
        };
        // Not under the lock: this wakes subscribers.
        there.iter().for_each(|registration| registration.feed.forget_ended(channel));
    }

    /// Forgets a subscription that has left.
    fn subscriber_left(&self) {
        let _left: Vec<_> = {
            let mut members = self.members();
            members.subscriptions.extract_if(.., |registration| registration.feed.is_closed()).collect()
        };
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
    fn prune(&mut self) -> Gone {
        let left = self.subscriptions.extract_if(.., |registration| registration.feed.is_closed()).collect();
        let closed = self.count_departed();
        // The caller is about to drop its references to those that were there just now.
        self.departed.retain(|channel| {
            let own = closed.iter().any(|closed| std::ptr::eq(channel.as_ptr(), Arc::as_ptr(closed)));
            channel.strong_count() > usize::from(own)
        });
        self.totals.attached = self.departed.len();
        (left, closed)
    }

    /// Lets go of the channels of publishers that have left. They are for the caller to drop when nothing is locked any more.
    fn count_departed(&mut self) -> Vec<Arc<Channel>> {
        let closed: Vec<_> = self.channels.extract_if(.., |channel| channel.is_closed()).collect();
        for channel in &closed {
            let stats = channel.stats();
            self.totals.publishers += 1;
            self.totals.published += stats.published;
            self.totals.bytes += stats.bytes;
            self.departed.push(Arc::downgrade(channel));
        }
        closed
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
