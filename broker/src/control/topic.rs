//! [`Topic`]: a name, a schema, and the participants.
//!
//! Wakers, tracing layers and destructors are the user's code and may call back. So nothing calls them while
//! the members are locked: readers join quietly and are announced after the lock is released, and members
//! that have left are dropped then.

mod linking;
mod tally;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use blockcast_blocks::shield::event;
use blockcast_blocks::{
    ArenaMemory, Channel, ChannelStats, JoinError, OpenError, PublisherId, ReaderOptions, Schema, Signal,
    TrafficTotals, Writer, channel_over, channel_with,
};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{ExpectedPublishers, Subscription, SubscriptionFeed, subscription_awaiting};

use crate::control::stats::{Departed, TopicStats};
use crate::hosting::topic_access::{Checks, Validator};
use crate::peers::link::{Announced, Interest, Link, LinkId, LinkSlot};

/// The participants of one topic. Messages do not pass through it: publishers and subscribers meet in their
/// channels.
pub(crate) struct Topic {
    name: Arc<str>,
    schema: Schema,
    /// Guests may still write to messages that they have published.
    unsealed: bool,
    /// The topic stays even without participants.
    declared: AtomicBool,
    /// Publishers that may come back.
    expected: Arc<ExpectedPublishers>,
    /// The schema's own check, once a typed participant of this process has provided it.
    layout: OnceLock<Validator>,
    /// The program's own rule for the messages of components.
    rule: OnceLock<Validator>,
    members: Mutex<Members>,
    /// Messages that subscriptions received from publishers that they have left.
    traffic: Arc<TrafficTotals>,
    /// The broker's link to other processes.
    link: Arc<LinkSlot>,
}

#[derive(Default)]
struct Members {
    /// The current publishers, of this process and of others.
    publishers: Vec<Member>,
    /// The channels of publishers that have left. Alive while somebody reads or holds their messages.
    departed: Vec<Weak<Channel>>,
    /// Totals of the publishers that have left.
    totals: Departed,
    /// Those of them that were publishers of this process: their messages, and the bytes of these.
    own_totals: (u64, u64),
    /// The current subscriptions.
    subscriptions: Vec<Arc<Registration>>,
    closed: bool,
}

/// A publisher of the topic.
#[derive(Debug)]
struct Member {
    channel: Arc<Channel>,
    /// Its name, if it is in another process. Otherwise its signal has it.
    label: Option<String>,
    /// The link by which other processes learn of it, or are about to.
    linked_to: Option<LinkId>,
    /// Dropping these announces its end to other processes: one for each link that the broker has had
    /// meanwhile.
    announced: Vec<Announced>,
}

struct Registration {
    feed: SubscriptionFeed,
    options: ReaderOptions,
    /// Keeps the publishers of other processes coming: one for each link that the broker has had meanwhile.
    interests: Mutex<Vec<Interest>>,
}

/// Participants that have left, to be dropped after all locks are released.
type Departures = (Vec<Arc<Registration>>, Vec<Member>);

/// Maximum number of a topic's subscriptions, so that a publisher can serve all of them.
const MAX_SUBSCRIPTIONS: usize = 65_536;

impl Topic {
    pub(crate) fn new(name: &str, schema: Schema, link: Arc<LinkSlot>) -> Result<Self, OpenError> {
        OpenError::check_name(name)?;
        Ok(Self {
            name: name.into(),
            schema,
            unsealed: false,
            declared: AtomicBool::new(false),
            expected: Arc::default(),
            layout: OnceLock::new(),
            rule: OnceLock::new(),
            members: Mutex::default(),
            traffic: Arc::default(),
            link,
        })
    }

    /// Lets guests write to messages that they have published.
    pub(crate) fn unsealed(self) -> Self {
        Self { unsealed: true, ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The broker's link to other processes, unless the topic's messages may change while they are read.
    fn link(&self) -> Option<Arc<Link>> {
        if self.unsealed { None } else { self.link.get() }
    }

    pub(crate) fn is_unsealed(&self) -> bool {
        self.unsealed
    }

    /// Sets whether the topic stays even without participants.
    pub(crate) fn set_declared(&self, declared: bool) {
        // Ordering: read under the lock of the broker's topics, while nobody else has a reference.
        self.declared.store(declared, Ordering::Relaxed);
    }

    /// Whether the topic has no participants and is not declared. Reliable if nobody else has a reference to
    /// it.
    pub(crate) fn is_unused(&self) -> bool {
        if self.declared.load(Ordering::Relaxed) {
            return false;
        }
        let members = self.members();
        // Publishers of other processes come for the subscriptions.
        members.publishers.iter().all(|member| member.channel.is_closed() || member.channel.is_remote())
            && members.subscriptions.iter().all(|registration| registration.feed.is_closed())
    }

    /// # Errors
    /// If a participant's schema differs from the topic's.
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

    /// Learns from the first typed participant of this process how bytes of the schema are checked. `check`
    /// must come from a [`Payload`](blockcast_blocks::Payload) with the topic's schema.
    pub(crate) fn learn_layout(&self, check: fn() -> Validator) {
        self.layout.get_or_init(check);
    }

    /// Adds the program's own rule for the messages of components.
    ///
    /// # Errors
    /// [`OpenError::Refused`] if the topic has another rule.
    pub(crate) fn set_rule(&self, rule: &Validator) -> Result<(), OpenError> {
        if Arc::ptr_eq(self.rule.get_or_init(|| Arc::clone(rule)), rule) {
            return Ok(());
        }
        Err(OpenError::Refused(format!("topic {:?} was declared with another rule", self.name)))
    }

    /// The checks that a component's message must pass.
    #[inline]
    pub(crate) fn checks(&self) -> Checks<'_> {
        Checks { layout: self.layout.get(), rule: self.rule.get() }
    }

    /// Adds a publisher. Before this returns, every subscription of the topic has joined its channel, so that
    /// nobody misses a message. This includes subscriptions of other processes, for which this waits.
    pub(crate) fn publish(
        self: &Arc<Self>,
        id: PublisherId,
        options: &PublisherOptions,
        signal: Arc<Signal>,
        memory: Option<ArenaMemory>,
    ) -> Result<Writer, OpenError> {
        self.tidy();
        let mut config = options.channel(id, self.schema.clone());
        // Declared before the lock, these are dropped after it.
        let (mut joined, mut refused) = (Vec::new(), Vec::new());
        let mut writer;
        let link;
        {
            let mut members = self.open_members()?;
            // Admit all current subscriptions: otherwise a subscriber could keep publishers out by
            // subscribing often enough.
            let current = u32::try_from(members.subscriptions.len()).unwrap_or(u32::MAX);
            if config.max_subscribers > 0 {
                config.max_subscribers = config.max_subscribers.max(current);
            }
            let created = match memory {
                Some(memory) => channel_over(config, signal, memory),
                None => channel_with(config, signal),
            };
            writer = created.map_err(|reason| OpenError::Channel { topic: self.name.to_string(), reason })?;
            let channel = writer.channel();
            channel.add_traffic_to(&self.traffic);
            // All subscriptions join or none: nobody sees a publisher that could not be created.
            for registration in members.subscriptions_for(channel) {
                let reader = channel.join_quietly(
                    &self.schema,
                    registration.options,
                    Arc::clone(registration.feed.signal()),
                );
                joined.push((Arc::clone(registration), Some(reader.map_err(|reason| self.refused(reason))?)));
            }
            link = self.link();
            let (channel, linked_to) = (Arc::clone(channel), link.as_ref().map(|link| link.id()));
            members.publishers.push(Member { channel, label: None, linked_to, announced: Vec::new() });
        }
        let channel = Arc::clone(writer.channel());
        if let Some(link) = link {
            match link.publish(self, &channel) {
                Ok(announced) => self.keep_announced(&channel, announced),
                Err(error) => {
                    let _removed = self.members().remove(&channel);
                    return Err(error);
                }
            }
        }
        for (registration, reader) in &mut joined {
            refused.extend(reader.take().and_then(|reader| registration.feed.add_quietly(reader)));
        }
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

    /// Adds a subscription to all current and future publishers of the topic. With `await_restarts`, the
    /// subscription does not end while publishers may [come back](Self::expect).
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        options: ReaderOptions,
        signal: Arc<Signal>,
        await_restarts: bool,
    ) -> Result<Subscription, OpenError> {
        self.tidy();
        let expected = await_restarts.then(|| Arc::clone(&self.expected));
        let (feed, subscription) = subscription_awaiting(signal, expected);
        // Declared before the lock, these are dropped after it.
        let (mut readers, mut channels) = (Vec::new(), Vec::new());
        // First the publishers of other processes become members.
        let interest = self.link().map(|link| link.subscribe(self)).transpose()?;
        let interests = Mutex::new(Vec::from_iter(interest));
        let registration = Arc::new(Registration { feed, options, interests });
        let feed = &registration.feed;
        {
            let mut members = self.open_members()?;
            if members.subscriptions.len() >= MAX_SUBSCRIPTIONS {
                return Err(self.refused(JoinError::Full { limit: MAX_SUBSCRIPTIONS as u32 }));
            }
            for Member { channel, .. } in members.publishers.iter().filter(|member| member.is_for(options)) {
                match channel.join_quietly(&self.schema, options, Arc::clone(feed.signal())) {
                    Ok(reader) => {
                        readers.push(reader);
                        channels.push(Arc::clone(channel));
                    }
                    // The publisher has just left.
                    Err(JoinError::Ended) => {}
                    Err(reason) => return Err(self.refused(reason)),
                }
            }
            // Nobody can have closed the new subscription, so it refuses no reader.
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
        // The broker may have been linked meanwhile, and not have seen this subscription yet.
        self.link().inspect(|link| self.link_members(link));
        event(|| tracing::info!(topic = &*self.name, publishers = channels.len(), "subscriber joined"));
        Ok(subscription)
    }

    /// Drops the memory of publishers that have left, unless somebody still reads it.
    pub(crate) fn tidy(&self) {
        // Dropped after the lock is released.
        let _departures = self.members().prune();
    }

    /// Keeps subscriptions that wait for restarts from ending until [`forget`](Self::forget) has been called
    /// as often.
    pub(crate) fn expect(&self) {
        self.expected.expect();
    }

    /// Call this when an expected publisher will not come back.
    pub(crate) fn forget(&self) {
        self.expected.forget();
        let current: Vec<_> = self.members().subscriptions.clone();
        for registration in current {
            registration.feed.ring();
        }
    }

    /// Refuses everyone who tries to join from now on. Subscriptions end once the current publishers have
    /// left.
    pub(crate) fn close(&self) {
        let _left = {
            let mut members = self.members();
            members.closed = true;
            std::mem::take(&mut members.subscriptions)
        };
    }

    pub(crate) fn stats(&self) -> TopicStats {
        self.tidy();
        let (channels, subscriptions, skipping_relays, departed) = {
            let members = self.members();
            let channels = members.publishers.iter();
            let channels = channels.map(|member| (Arc::clone(&member.channel), member.label.clone()));
            let skipping = members.subscriptions.iter().filter(|one| one.options.skip_relays).count();
            (channels.collect::<Vec<_>>(), members.subscriptions.len(), skipping, members.totals)
        };
        let stats = |(channel, label): (Arc<Channel>, Option<String>)| {
            let stats = channel.stats();
            ChannelStats { name: label.unwrap_or(stats.name), ..stats }
        };
        TopicStats {
            name: self.name.to_string(),
            schema: self.schema.clone(),
            subscriptions,
            skipping_relays,
            publishers: channels.into_iter().map(stats).collect(),
            departed,
        }
    }

    fn refused(&self, reason: JoinError) -> OpenError {
        OpenError::Join { topic: self.name.to_string(), reason }
    }

    /// Releases everything that nobody needs of a departed publisher, even if its subscribers are idle.
    pub(crate) fn publisher_left(&self, channel: &Arc<Channel>) {
        let (current, _departed) = {
            let mut members = self.members();
            let departed = members.count_departed();
            (members.subscriptions.clone(), departed)
        };
        // Without the lock, since this wakes subscribers.
        current.iter().for_each(|registration| registration.feed.forget_ended(channel));
    }

    /// Removes subscriptions that have left.
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
        // Every change to the members is complete before anything can panic, so they are consistent even
        // after a panic.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a subscription with these options takes messages of this channel.
fn takes(options: ReaderOptions, channel: &Channel) -> bool {
    !(options.skip_relays && channel.config().relay)
}

impl Member {
    /// Whether a subscription with these options joins the publisher.
    fn is_for(&self, options: ReaderOptions) -> bool {
        takes(options, &self.channel)
    }
}

impl Members {
    /// The subscriptions that join this publisher.
    fn subscriptions_for(&self, channel: &Channel) -> impl Iterator<Item = &Arc<Registration>> {
        self.subscriptions.iter().filter(|registration| takes(registration.options, channel))
    }

    /// Removes members that have left.
    fn prune(&mut self) -> Departures {
        let left = self.subscriptions.extract_if(.., |registration| registration.feed.is_closed()).collect();
        let closed = self.count_departed();
        // The caller is about to drop its references to the channels that have just closed.
        self.departed.retain(|channel| {
            let own = closed.iter().any(|left| std::ptr::eq(channel.as_ptr(), Arc::as_ptr(&left.channel)));
            channel.strong_count() > usize::from(own)
        });
        self.totals.attached = self.departed.len();
        (left, closed)
    }

    /// Removes the publisher of this channel, and does not count it.
    fn remove(&mut self, channel: &Arc<Channel>) -> Option<Member> {
        let position = self.publishers.iter().position(|member| Arc::ptr_eq(&member.channel, channel))?;
        Some(self.publishers.remove(position))
    }

    /// Removes and counts the publishers that have left. The caller drops them after the lock is
    /// released.
    fn count_departed(&mut self) -> Vec<Member> {
        let closed: Vec<_> = self.publishers.extract_if(.., |member| member.channel.is_closed()).collect();
        for Member { channel, .. } in &closed {
            let stats = channel.stats();
            self.totals.publishers += 1;
            // Other processes count their own messages, and may count anything.
            self.totals.published = self.totals.published.saturating_add(stats.published);
            self.totals.bytes = self.totals.bytes.saturating_add(stats.bytes);
            if !channel.is_remote() {
                self.own_totals.0 += stats.published;
                self.own_totals.1 += stats.bytes;
            }
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
            .field("publishers", &self.publishers.len())
            .field("subscriptions", &self.subscriptions.len())
            .finish_non_exhaustive()
    }
}
