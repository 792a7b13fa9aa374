//! [`Broker`]: the control plane.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use blockcast_blocks::{ArenaMemory, Bytes, OpenError, Payload, Process, Schema};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use tokio::runtime::Handle;

use crate::control::shared::Shared;
use crate::control::stats::TopicStats;
use crate::control::tasks::Tasks;
use crate::control::untyped::UntypedPublisher;
use crate::hosting::topic_access::Validator;
use crate::peers::children::Children;

/// Creates topics, admits publishers and subscribers, and runs components. It is never on the path of a
/// message.
///
/// Cloning is cheap; all clones are the same broker.
///
/// # Dropping it
/// Dropping the last clone [cancels](crate::Component::cancel) every running component, as dropping a runtime
/// cancels its tasks, and refuses everyone who tries to join from then on. It does not wait for the
/// components: [`Component::ended`](crate::Component::ended) and [`Component::wait`](crate::Component::wait)
/// do. To let components finish on their own, wait for them first, or call [`shut_down`](Self::shut_down) and
/// then wait. The broker's threads end with the last component. Publishers and subscribers of the program
/// itself stay usable, and subscribers end once no publisher is left. An app that holds a clone of the broker
/// keeps it alive.
///
/// # Topics
/// A topic exists while it has a participant: a publisher or a subscriber, in the program or in a component.
/// When the last one leaves, the topic is removed with its statistics, and a later topic of that name may
/// have another schema. A [declared](Self::declare) topic stays, and so do all topics after
/// [`keep_topics`](Self::keep_topics).
///
/// # Callbacks into the program
/// Log sinks, validators, wakers and `tracing` layers may call any method of the broker: no lock is held
/// while they run. A panic in a log sink or a validator ends the component on whose behalf it was called
/// ([`ExitReason::HostPanicked`](crate::ExitReason::HostPanicked)). A panic in a waker, a layer or a
/// destructor affects nobody else.
#[derive(Clone)]
pub struct Broker {
    pub(super) shared: Arc<Shared>,
    pub(super) owner: Arc<Owner>,
}

/// Held by the clones of a broker and by nothing that the broker runs: dropping it means that the program has
/// no broker any more.
pub(super) struct Owner {
    shared: Arc<Shared>,
    pub(super) tasks: Arc<Tasks>,
    /// Set when the first process is started. Kept, so that no topic is opened while the broker unlinks.
    pub(super) children: Mutex<Option<Arc<Children>>>,
}

impl Broker {
    /// Creates a broker without topics. Components run on a tokio runtime of its own, which is created when
    /// the first component is started.
    #[must_use]
    pub fn new() -> Self {
        Self::with_tasks(Tasks::Own(OnceLock::new(), Process::current()))
    }

    /// Creates a broker whose components run on the caller's tokio runtime, which must have its timer
    /// enabled.
    #[must_use]
    pub fn on_runtime(runtime: Handle) -> Self {
        Self::with_tasks(Tasks::Given(runtime))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn with_tasks(tasks: Tasks) -> Self {
        let shared = Arc::new(Shared::new());
        let tasks = Arc::new(tasks);
        let owner = Arc::new(Owner { shared: Arc::clone(&shared), tasks, children: Mutex::default() });
        Self { shared, owner }
    }

    /// Opens a topic for publishing and creates it if it does not exist. Takes about twenty system calls.
    ///
    /// # Errors
    /// [`OpenError`], most often because the schema differs from the topic's.
    pub fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.shared.publisher("", topic, options, None, None)
    }

    /// Like [`publisher`](Self::publisher), but places the blocks in memory that the caller provides.
    ///
    /// # Errors
    /// The same as for [`publisher`](Self::publisher), and
    /// [`ChannelError::Memory`](blockcast_blocks::ChannelError::Memory) if the memory is too small.
    pub fn publisher_over<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
        memory: ArenaMemory,
    ) -> Result<Publisher<P>, OpenError> {
        self.shared.publisher("", topic, options, Some(memory), None)
    }

    /// Opens a topic for subscribing and creates it if it does not exist. Every message published after this
    /// returns is received, or counted as lost if the options allow losses.
    ///
    /// # Errors
    /// [`OpenError`], most often because the schema differs from the topic's.
    pub fn subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.shared.subscriber("", topic, options, options.get_await_restarts())
    }

    /// Subscribes to the bytes of a topic whose messages have any layout, such as one that
    /// [`topics`](Self::topics) lists. Creates the topic if it does not exist. The bytes are not checked
    /// against the layout: [`Sample::validity`](blockcast_subscriber::Sample::validity) tells whether their
    /// publisher did that.
    ///
    /// # Errors
    /// [`OpenError`], most often because the schema differs from the topic's.
    pub fn subscriber_of_any(
        &self,
        topic: &str,
        schema: &Schema,
        options: SubscriberOptions,
    ) -> Result<Subscriber<Bytes>, OpenError> {
        self.shared.subscriber_of_any(topic, schema, options)
    }

    /// Opens a topic for publishing bytes of any layout. Creates the topic if it does not exist. Takes about
    /// twenty system calls.
    ///
    /// # Errors
    /// [`OpenError`], most often because the schema differs from the topic's.
    pub fn publisher_of_any(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
    ) -> Result<UntypedPublisher, OpenError> {
        let (topic, writer) = self.shared.publisher_of_any(topic, schema, options)?;
        Ok(UntypedPublisher::new(topic, writer))
    }

    /// Declares a topic to which guests publish without giving up write access: they build large messages in
    /// place and publish them without a system call. A guest that writes to a message afterwards changes it
    /// under its readers.
    ///
    /// Therefore only guests with [`Isolation::Arena`](crate::Isolation::Arena) can subscribe. (To a native
    /// subscriber, a changing message is undefined behaviour; to a guest it is only nonsense.) No message is
    /// marked as valid, so readers validate for themselves. The topic must not exist yet, and stays until it
    /// is [undeclared](Self::undeclare).
    ///
    /// # Errors
    /// [`OpenError::Sealed`] if the topic exists, [`OpenError::BadName`], [`OpenError::Closed`].
    pub fn declare_unsealed(&self, topic: &str, schema: &Schema) -> Result<(), OpenError> {
        self.shared.declare_unsealed(topic, schema)
    }

    /// Creates a topic that stays even without participants, so that nobody else decides what it carries. A
    /// topic that exists with the same schema stays from now on, and gets the `rule`.
    ///
    /// A rule decides which messages components may publish. If it refuses a message, the publisher gets an
    /// error and nobody sees the message. The rule runs after the layout's own check, which typed publishers
    /// and subscribers of this process bring along. A rule does not vouch for the layout: if the broker does
    /// not know the layout, typed subscribers validate each message themselves. Rules do not apply to the
    /// program's own publishers, to messages for which a native library vouches, or to
    /// [unsealed](Self::declare_unsealed) topics.
    ///
    /// # Errors
    /// [`OpenError::SchemaMismatch`], [`OpenError::BadName`], [`OpenError::Closed`], and
    /// [`OpenError::Refused`] if the topic was declared with another rule.
    pub fn declare(&self, topic: &str, schema: &Schema, rule: Option<Validator>) -> Result<(), OpenError> {
        let topic = self.shared.open_topic(topic, schema, None, &mut |_| true)?;
        topic.set_declared(true);
        rule.map_or(Ok(()), |rule| topic.set_rule(&rule))
    }

    /// Reverts a declaration: the topic is removed once it has no participants. Its rule holds until then.
    /// Does nothing if there is no such topic, or in a forked child.
    pub fn undeclare(&self, topic: &str) {
        if self.shared.is_inherited() {
            return;
        }
        let topic = self.shared.topics().get(topic);
        topic.inspect(|topic| topic.set_declared(false));
    }

    /// A number that identifies the topics of this broker, such as for those who connect them with other
    /// machines. Clones have the same number, and so have all brokers that are connected to one host. All
    /// others have another one, except by chance: two hosts that run on one machine, or on copies of one
    /// virtual machine, with a probability of 2^-24. It changes if the broker begins to [serve](Self::serve),
    /// or if its process is connected to a new host.
    #[must_use]
    pub fn identity(&self) -> u128 {
        self.shared.identity()
    }

    /// Keeps all topics and their statistics from now on, even those without participants. For programs with
    /// a known set of topics that want the counters of participants that have left. Does nothing in a forked
    /// child.
    pub fn keep_topics(&self) {
        if !self.shared.is_inherited() {
            self.shared.topics().keep_all();
        }
    }

    /// Returns the counters of all topics, sorted by name. Removed topics are not included. Empty in a forked
    /// child.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicStats> {
        if self.shared.is_inherited() {
            return Vec::new();
        }
        self.shared.sweep();
        let topics = self.shared.topics().all();
        topics.iter().map(|topic| topic.stats()).collect()
    }

    /// Returns the counters of one topic, if it exists.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<TopicStats> {
        if self.shared.is_inherited() {
            return None;
        }
        self.shared.find_topic(name).map(|topic| topic.stats())
    }

    /// Asks every component to finish and refuses everyone who tries to join from now on. Subscriptions end
    /// once their current publishers have left.
    pub fn shut_down(&self) {
        self.shared.close(|control| control.request_shutdown());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close(|control| control.cancel());
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shared.is_inherited() {
            return f.write_str("Broker(of the process that was forked)");
        }
        // Formatting calls the user's code, so the names are copied out of the lock first.
        let names = self.shared.topics().names();
        f.debug_struct("Broker").field("topics", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publisher_numbers_are_unique_beyond_32_bits() {
        let broker = Broker::new();
        let first = u64::from(u32::MAX) - 1;
        broker.shared.set_next_publisher(first);
        let options = || PublisherOptions::new().blocks(2).block_size(64);
        let _publishers = [(); 4].map(|()| broker.publisher::<Bytes>("topic", options()).expect("opens"));
        let topic = broker.topic("topic").expect("it is there");
        let numbers: Vec<_> = topic.publishers.iter().map(|channel| channel.publisher.get()).collect();
        assert_eq!(numbers, [first, first + 1, first + 2, first + 3]);
    }
}
