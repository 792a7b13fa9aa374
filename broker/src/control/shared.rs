//! [`Shared`]: a broker's state.

#[cfg(feature = "wasm")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blockcast_blocks::{
    ArenaMemory, Bytes, OpenError, Payload, Process, PublisherId, Schema, Signal, Writer,
};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};

use crate::component::cancellation::ComponentControl;
use crate::control::expectation::RestartExpectation;
use crate::control::start_error::StartError;
use crate::control::topic::Topic;
use crate::control::topic_table::TopicTable;
#[cfg(feature = "wasm")]
use crate::host::wasm::{EngineError, GuestEngine};
use crate::hosting::topic_access::Validator;
use crate::peers::identity;
use crate::peers::job::Tally;
use crate::peers::link::{Link, LinkSlot};

/// State shared by all clones of a broker, its sessions and its components.
pub(crate) struct Shared {
    process: Process,
    topics: Mutex<TopicTable>,
    closed: AtomicBool,
    /// Never wraps, since publisher numbers serve as keys. No process lives long enough for 2^64 publishers.
    next_publisher: AtomicU64,
    components: Mutex<Vec<Arc<ComponentControl>>>,
    /// How the topics reach other processes.
    link: Arc<LinkSlot>,
    identity: Mutex<u128>,
    #[cfg(feature = "wasm")]
    pub(super) engine: OnceLock<Result<Arc<GuestEngine>, EngineError>>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            process: Process::current(),
            topics: Mutex::default(),
            closed: AtomicBool::new(false),
            next_publisher: AtomicU64::new(1),
            components: Mutex::default(),
            link: Arc::default(),
            identity: Mutex::new(identity::random()),
            #[cfg(feature = "wasm")]
            engine: OnceLock::new(),
        }
    }

    /// Whether this is a forked child, which has none of the broker's threads and in which its locks may
    /// never be released.
    pub(crate) fn is_inherited(&self) -> bool {
        !self.process.is_current()
    }

    fn check_process(&self) -> Result<(), OpenError> {
        if self.is_inherited() { Err(OpenError::Forked) } else { Ok(()) }
    }

    /// # Errors
    /// If components cannot be started because this is a forked child.
    pub(super) fn check_start(&self) -> Result<(), StartError> {
        if self.is_inherited() { Err(StartError::Forked) } else { Ok(()) }
    }

    pub(crate) fn publisher<P: Payload>(
        &self,
        name: &str,
        topic: &str,
        options: PublisherOptions,
        memory: Option<ArenaMemory>,
        expectation: Option<&RestartExpectation>,
    ) -> Result<Publisher<P>, OpenError> {
        let signal = signal_of(options.get_name(), name);
        let topic = self.open_topic(topic, &P::schema(), Some(validator_of::<P>), &mut |_| true)?;
        expectation.inspect(|expectation| expectation.note(&topic));
        let (_, writer) = self.publish(topic, options, signal, memory)?;
        Publisher::new(writer).map_err(|misfit| OpenError::Refused(misfit.to_string()))
    }

    pub(crate) fn subscriber<P: Payload>(
        &self,
        name: &str,
        topic: &str,
        options: SubscriberOptions,
        await_restarts: bool,
    ) -> Result<Subscriber<P>, OpenError> {
        let signal = signal_of(options.get_name(), name);
        let topic = self.open_topic(topic, &P::schema(), Some(validator_of::<P>), &mut |_| true)?;
        if topic.is_unsealed() {
            return Err(OpenError::Unsealed { topic: topic.name().to_owned() });
        }
        let subscription = topic.subscribe(options.reader(), signal, await_restarts)?;
        // SAFETY: the subscription is to a topic that admitted the schema of `P`, and admits no publisher
        // with another one.
        Ok(unsafe { Subscriber::new(subscription) })
    }

    /// Subscribes to the bytes of messages of any layout.
    pub(crate) fn subscriber_of_any(
        &self,
        topic: &str,
        schema: &Schema,
        options: SubscriberOptions,
    ) -> Result<Subscriber<Bytes>, OpenError> {
        let signal = signal_of(options.get_name(), "");
        let topic = self.open_topic(topic, schema, None, &mut |_| true)?;
        if topic.is_unsealed() {
            return Err(OpenError::Unsealed { topic: topic.name().to_owned() });
        }
        let subscription = topic.subscribe(options.reader(), signal, options.get_await_restarts())?;
        // SAFETY: the publishers have another schema, but any message is a value of the layout `Bytes`: its
        // bytes, which every subscriber shows by `Message::bytes`. Nothing else is read from them.
        Ok(unsafe { Subscriber::new(subscription) })
    }

    /// Adds a publisher of bytes of any layout, and returns its topic too.
    pub(crate) fn publisher_of_any(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
    ) -> Result<(Arc<Topic>, Writer), OpenError> {
        let signal = signal_of(options.get_name(), "");
        let topic = self.open_topic(topic, schema, None, &mut |_| true)?;
        if topic.is_unsealed() {
            return Err(OpenError::Unsealed { topic: topic.name().to_owned() });
        }
        self.publish(topic, options, signal, None)
    }

    /// Adds a publisher to an existing topic.
    pub(crate) fn publish(
        &self,
        topic: Arc<Topic>,
        options: PublisherOptions,
        signal: Arc<Signal>,
        memory: Option<ArenaMemory>,
    ) -> Result<(Arc<Topic>, Writer), OpenError> {
        self.check_process()?;
        let id = PublisherId::new(self.next_publisher.fetch_add(1, Ordering::Relaxed));
        let writer = topic.publish(id, &options, signal, memory)?;
        Ok((topic, writer))
    }

    /// Returns the topic of that name. Creates it if it does not exist and `may_create` agrees. A new topic
    /// has no participants: it is removed unless one joins before the returned reference is dropped.
    pub(crate) fn open_topic(
        &self,
        name: &str,
        schema: &Schema,
        layout: Option<fn() -> Validator>,
        may_create: &mut dyn FnMut(&Arc<Topic>) -> bool,
    ) -> Result<Arc<Topic>, OpenError> {
        self.check_process()?;
        // Dropped after the lock is released.
        let mut unused = Vec::new();
        let topic = {
            let mut topics = self.topics();
            if self.closed.load(Ordering::Acquire) {
                return Err(OpenError::Closed);
            }
            unused.extend(topics.remove_unused(name));
            match topics.get(name) {
                Some(topic) => topic,
                None => {
                    let topic = Arc::new(Topic::new(name, schema.clone(), Arc::clone(&self.link))?);
                    if !may_create(&topic) {
                        return Err(OpenError::Refused(format!("topic {name:?} does not exist")));
                    }
                    unused.extend(topics.insert(Arc::clone(&topic)));
                    topic
                }
            }
        };
        drop(unused);
        topic.admits(schema)?;
        if let Some(layout) = layout {
            topic.learn_layout(layout);
        }
        Ok(topic)
    }

    pub(super) fn declare_unsealed(&self, topic: &str, schema: &Schema) -> Result<(), OpenError> {
        self.check_process()?;
        let new = Arc::new(Topic::new(topic, schema.clone(), Arc::clone(&self.link))?.unsealed());
        new.set_declared(true);
        // Dropped after the lock is released.
        let mut unused = Vec::new();
        let mut topics = self.topics();
        if self.closed.load(Ordering::Acquire) {
            return Err(OpenError::Closed);
        }
        unused.extend(topics.remove_unused(topic));
        if topics.get(topic).is_some() {
            return Err(OpenError::Sealed { topic: topic.to_owned() });
        }
        unused.extend(topics.insert(new));
        Ok(())
    }

    /// Registers a component, so that it is asked to stop when the broker shuts down.
    pub(super) fn admit_component(&self, name: &str) -> Result<Arc<ComponentControl>, StartError> {
        let control = ComponentControl::named(name);
        let mut components = lock(&self.components);
        if self.closed.load(Ordering::Acquire) {
            return Err(StartError::Closed);
        }
        // Only this list still refers to a component that has ended.
        components.retain(|control| Arc::strong_count(control) > 1);
        components.push(Arc::clone(&control));
        Ok(control)
    }

    /// Removes all topics without participants.
    pub(crate) fn sweep(&self) {
        // Dropped after the lock is released.
        let _unused = self.topics().sweep();
    }

    pub(super) fn topics(&self) -> MutexGuard<'_, TopicTable> {
        lock(&self.topics)
    }

    /// Refuses everyone who tries to join from now on, and calls `stop` for every component.
    pub(super) fn close(&self, stop: impl Fn(&ComponentControl)) {
        if self.is_inherited() {
            return;
        }
        // Ordering: Release pairs with the Acquire in `open_topic`; the locks below order the rest.
        self.closed.store(true, Ordering::Release);
        // Stopping components and ending subscriptions calls wakers, so no lock may be held.
        let components: Vec<_> = lock(&self.components).clone();
        components.iter().for_each(|control| stop(control));
        let topics = self.topics().all();
        topics.iter().for_each(|topic| topic.close());
    }

    /// Numbers later publishers from `number` on, unless some have higher numbers already.
    pub(crate) fn set_next_publisher(&self, number: u64) {
        // Ordering: Relaxed, like the additions.
        self.next_publisher.fetch_max(number, Ordering::Relaxed);
    }

    /// Identifies the topics: see [`Broker::identity`](crate::Broker::identity).
    pub(crate) fn identity(&self) -> u128 {
        *self.lock_identity()
    }

    /// Shares the identity of the host with this number, if there is one.
    pub(crate) fn join_host(&self, number: u32) {
        if let Some(identity) = identity::of_host(number) {
            *self.lock_identity() = identity;
        }
    }

    fn lock_identity(&self) -> MutexGuard<'_, u128> {
        // Only assigned, so it is consistent after a panic.
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links all topics with other processes. Returns `false` if they are linked already.
    pub(crate) fn link(&self, link: &Arc<Link>) -> bool {
        if !self.link.set(link) {
            return false;
        }
        // Topics that are created from here on, and members that join from here on, are linked by those who
        // join.
        let topics = self.topics().all();
        topics.iter().for_each(|topic| topic.link_members(link));
        true
    }

    /// Reverts [`link`](Self::link) for those who join from now on.
    pub(crate) fn unlink(&self) {
        self.link.clear();
    }

    /// The broker's link to other processes, if it has one.
    pub(crate) fn get_link(&self) -> Option<Arc<Link>> {
        self.link.get()
    }

    /// Names and schemas of all topics, sorted by name.
    pub(crate) fn named_schemas(&self) -> Vec<(String, Schema)> {
        let topics = self.topics().all();
        topics.iter().map(|topic| (topic.name().to_owned(), topic.schema().clone())).collect()
    }

    /// Returns the counters of this process's participants in all topics that exist.
    pub(crate) fn tally(&self) -> Tally {
        let (topics, mut tally) = (self.topics().all(), Tally::default());
        topics.iter().for_each(|topic| topic.count_own(&mut tally));
        tally
    }

    /// Whether nobody can join any more.
    pub(crate) fn is_closed(&self) -> bool {
        // Ordering: as in `open_topic`.
        self.closed.load(Ordering::Acquire)
    }

    /// The topic of that name, if it exists and has participants or stays without.
    pub(crate) fn find_topic(&self, name: &str) -> Option<Arc<Topic>> {
        // Dropped after the lock is released.
        let (topic, _unused) = {
            let mut topics = self.topics();
            let unused = topics.remove_unused(name);
            (topics.get(name), unused)
        };
        topic
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("process", &self.process).finish_non_exhaustive()
    }
}

/// Creates a participant's signal, named by its options or else by its component.
fn signal_of(own: &str, component: &str) -> Arc<Signal> {
    Signal::named(if own.is_empty() { component } else { own })
}

/// Checks bytes against the layout of `P`.
fn validator_of<P: Payload>() -> Validator {
    Arc::new(P::validate)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only single calls of the standard library change the guarded values, so they are consistent even after
    // a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
