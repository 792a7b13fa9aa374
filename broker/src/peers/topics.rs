//! [`HostTopic`]: a topic that a host brings together, as an inspection shows it.

use std::time::Duration;

use blockcast_blocks::{Bytes, ChannelStats, OpenError, Schema, text};
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::control::broker::Broker;
use crate::peers::connection::Connection;
use crate::peers::error::InspectError;
use crate::peers::protocol::{SchemaRecord, Selection};

/// Maximum length of a name in an answer, in bytes.
const MAX_NAME: usize = 128;

/// How long a host waits for the counters of other processes' publishers.
pub(crate) const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// A topic that a host brings together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostTopic {
    /// The topic's name.
    pub name: String,
    pub(crate) schema: SchemaRecord,
    /// Its publishers, of all processes.
    pub publishers: Vec<HostPublisher>,
    /// The processes that subscribe.
    pub subscribers: Vec<String>,
    /// Number of publishers and subscribing processes that are not listed, because there are too many.
    pub omitted: u32,
}

/// A publisher of a [`HostTopic`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostPublisher {
    /// The number that its messages carry.
    pub number: u64,
    /// Its name; may be empty.
    pub name: String,
    /// Its process.
    pub process: String,
    /// Whether it is a [relay](blockcast_publisher::PublisherOptions::relay).
    pub relay: bool,
    /// Its counters. `None` if its process does not report them, such as when it is stopped.
    pub counters: Option<PublisherCounters>,
}

/// The counters of a [`HostPublisher`], as its process reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublisherCounters {
    /// Messages published.
    pub published: u64,
    /// Bytes published.
    pub bytes: u64,
    /// Current number of blocks in the pool.
    pub blocks: u32,
    /// Blocks that are free or loaned.
    pub free: u32,
    /// Loans that found no block.
    pub exhausted: u64,
    /// The subscribers, of all processes.
    pub subscribers: Vec<SubscriberCounters>,
    /// Number of subscribers that are not listed, because there are too many.
    pub omitted: u32,
}

/// The counters of a subscriber of a [`HostPublisher`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriberCounters {
    /// The subscriber's name, or its process if that is not the publisher's. May be empty.
    pub name: String,
    /// Messages received.
    pub received: u64,
    /// Messages lost by the subscriber's overflow policy.
    pub lost: u64,
    /// Messages published since the oldest that the subscriber may still be attached to.
    pub behind: u64,
}

/// Some of a host's topics.
#[derive(Debug)]
pub(crate) struct TopicPage {
    pub(crate) topics: Vec<HostTopic>,
    pub(crate) is_last: bool,
}

impl HostTopic {
    /// Layout of the topic's messages.
    #[must_use]
    pub fn schema(&self) -> Schema {
        self.schema.clone().into()
    }

    /// Messages published by the current publishers, as far as these report.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.counters().fold(0, |sum, counters| sum.saturating_add(counters.published))
    }

    /// Bytes published by the current publishers, as far as these report.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counters().fold(0, |sum, counters| sum.saturating_add(counters.bytes))
    }

    /// Messages that the current subscribers have lost, as far as publishers report.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let subscribers = self.counters().flat_map(|counters| &counters.subscribers);
        subscribers.fold(0, |sum, subscriber| sum.saturating_add(subscriber.lost))
    }

    fn counters(&self) -> impl Iterator<Item = &PublisherCounters> {
        self.publishers.iter().filter_map(|publisher| publisher.counters.as_ref())
    }

    /// Limits the number of listed publishers, of subscribing processes, and of subscribers of each
    /// publisher.
    pub(crate) fn keep(&mut self, most: usize) {
        let surplus =
            self.publishers.len().saturating_sub(most) + self.subscribers.len().saturating_sub(most);
        self.omitted = self.omitted.saturating_add(u32::try_from(surplus).unwrap_or(u32::MAX));
        self.publishers.truncate(most);
        self.subscribers.truncate(most);
        let counters = self.publishers.iter_mut().filter_map(|publisher| publisher.counters.as_mut());
        counters.for_each(|counters| counters.keep_subscribers(most));
    }
}

impl PublisherCounters {
    pub(crate) fn of(stats: &ChannelStats) -> Self {
        let subscribers = stats.subscribers.iter().map(|reader| SubscriberCounters {
            name: text::line_within(&reader.name, MAX_NAME).into_owned(),
            received: reader.received,
            lost: reader.lost,
            behind: reader.behind,
        });
        Self {
            published: stats.published,
            bytes: stats.bytes,
            blocks: stats.blocks,
            free: stats.free,
            exhausted: stats.exhausted,
            subscribers: subscribers.collect(),
            omitted: 0,
        }
    }

    /// Limits the number of listed subscribers.
    pub(crate) fn keep_subscribers(&mut self, most: usize) {
        let surplus = self.subscribers.len().saturating_sub(most);
        self.omitted = self.omitted.saturating_add(u32::try_from(surplus).unwrap_or(u32::MAX));
        self.subscribers.truncate(most);
    }

    /// Cuts the names, which another process has chosen.
    pub(crate) fn cut_names(&mut self) {
        for subscriber in &mut self.subscribers {
            subscriber.name = text::line_within(&subscriber.name, MAX_NAME).into_owned();
        }
    }
}

impl Connection {
    /// The topics that the host brings together, with the publishers and subscribers of all processes, sorted
    /// by name. Only topics that this process may publish or subscribe to. Blocks the thread until the host
    /// has answered, several times if the answer needs several packets: topics that come or go meanwhile may
    /// be missing or listed.
    ///
    /// This disturbs nobody: the host asks the publishers' processes for their counters, and waits a second
    /// for them.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn host_topics(&self) -> Result<Vec<HostTopic>, InspectError> {
        let mut topics: Vec<HostTopic> = Vec::new();
        loop {
            let after = topics.last().map_or_else(String::new, |topic| topic.name.clone());
            let page = self.inspect(Selection::After(after))?;
            let is_last = page.is_last || page.topics.is_empty();
            topics.extend(page.topics);
            if is_last {
                return Ok(topics);
            }
        }
    }

    /// Like [`host_topics`](Self::host_topics), for one topic. `None` if the host does not know it, or this
    /// process may neither publish nor subscribe to it.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn host_topic(&self, name: &str) -> Result<Option<HostTopic>, InspectError> {
        if OpenError::check_name(name).is_err() {
            return Ok(None);
        }
        Ok(self.inspect(Selection::Named(name.to_owned()))?.topics.pop())
    }

    /// Subscribes to the bytes of a topic whose messages have any layout, such as one that
    /// [`host_topic`](Self::host_topic) has found: see [`Broker::subscriber_of_any`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn subscriber_of_any(
        &self,
        topic: &str,
        schema: &Schema,
        options: SubscriberOptions,
    ) -> Result<Subscriber<Bytes>, OpenError> {
        self.broker().subscriber_of_any(topic, schema, options)
    }

    fn inspect(&self, selection: Selection) -> Result<TopicPage, InspectError> {
        let link = self.broker().shared().get_link().ok_or(InspectError::Disconnected)?;
        link.inspect(selection)
    }
}
