//! [`Source`]: what a bridge connects to other machines.

use std::sync::Arc;

use blockcast_blocks::{Bytes, OpenError, Schema};
use blockcast_broker::{Broker, Connection, HostTopic, TopicStats, UntypedPublisher};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{Subscriber, SubscriberOptions};

/// The topics that a bridge connects to other machines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// Those of a broker, as far as this process takes part in them.
    Broker(Broker),
    /// Those of the host to which this process is connected, with the participants of all its processes.
    Connection(Arc<Connection>),
}

impl From<&Broker> for Source {
    fn from(broker: &Broker) -> Self {
        Self::Broker(broker.clone())
    }
}

impl From<Arc<Connection>> for Source {
    fn from(connection: Arc<Connection>) -> Self {
        Self::Connection(connection)
    }
}

/// A topic, and which participants it has, other than bridges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalTopic {
    pub(crate) name: String,
    pub(crate) schema: Schema,
    pub(crate) has_publishers: bool,
    pub(crate) has_subscribers: bool,
    /// Whether this process subscribes, be it for the bridge only.
    is_subscribed: bool,
}

impl From<TopicStats> for LocalTopic {
    fn from(topic: TopicStats) -> Self {
        Self {
            has_publishers: topic.publishers.iter().any(|publisher| !publisher.relay && !publisher.closed),
            has_subscribers: topic.subscriptions > topic.skipping_relays,
            is_subscribed: topic.subscriptions > 0,
            name: topic.name,
            schema: topic.schema,
        }
    }
}

impl LocalTopic {
    /// Adds the participants of other processes.
    fn add(&mut self, host: &HostTopic) {
        self.has_publishers |= host.publishers.iter().any(|publisher| !publisher.relay);
        let subscribers = host.subscribers.len() + host.omitted as usize;
        self.has_subscribers |= subscribers > usize::from(self.is_subscribed);
    }
}

impl Source {
    pub(crate) fn broker(&self) -> &Broker {
        match self {
            Self::Broker(broker) => broker,
            Self::Connection(connection) => connection.broker(),
        }
    }

    /// All topics. `None` if the host does not answer.
    pub(crate) fn topics(&self) -> Option<Vec<LocalTopic>> {
        let mut topics: Vec<LocalTopic> = self.broker().topics().into_iter().map(Into::into).collect();
        let Self::Connection(connection) = self else { return Some(topics) };
        for host in connection.host_topics().ok()? {
            let mut topic = match topics.iter().position(|topic| topic.name == host.name) {
                Some(own) => topics.swap_remove(own),
                None => LocalTopic {
                    schema: host.schema(),
                    name: host.name.clone(),
                    has_publishers: false,
                    has_subscribers: false,
                    is_subscribed: false,
                },
            };
            topic.add(&host);
            topics.push(topic);
        }
        Some(topics)
    }

    pub(crate) fn subscriber(
        &self,
        topic: &str,
        schema: &Schema,
        options: SubscriberOptions,
    ) -> Result<Subscriber<Bytes>, OpenError> {
        self.broker().subscriber_of_any(topic, schema, options)
    }

    pub(crate) fn publisher(
        &self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
    ) -> Result<UntypedPublisher, OpenError> {
        self.broker().publisher_of_any(topic, schema, options)
    }
}
