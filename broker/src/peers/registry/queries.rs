//! Questions about the topics of a [`Registry`]. The processes of the publishers report their counters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use blockcast_blocks::Schema;

use super::{Audience, ChannelKey, Inspector, Registry, Violation};
use crate::control::grants::Grants;
use crate::peers::protocol::{ChannelNumber, Message as _, Notice, PeerId, PublisherRecord, Selection};
use crate::peers::topics::{HostPublisher, HostTopic, PublisherCounters, REPORT_PATIENCE};

/// Maximum size of the topics in one answer in bytes, without counters. The first topic may exceed it.
const PAGE: usize = 16 << 10;

/// Maximum number of publishers, and of subscribing processes, listed for one topic.
const MAX_LISTED: usize = 64;

/// Maximum number of reports that a process may owe. One that does not answer is not asked again, so that
/// questions about it never fill the queue of messages that wait for it.
const MAX_OWED: u32 = 8;

/// A question that is not answered yet.
#[derive(Debug)]
pub(super) struct Query {
    from: PeerId,
    request: u64,
    topics: Vec<HostTopic>,
    is_last: bool,
    /// Where the counters of a publisher belong: its topic and its place in that topic.
    places: BTreeMap<ChannelKey, (usize, usize)>,
    /// The processes that have not reported.
    awaited: BTreeSet<PeerId>,
    pub(super) deadline: Instant,
}

impl<F: Clone> Registry<F> {
    /// Collects the topics that a process asks for, and asks the publishers' processes for their counters.
    pub(super) fn query(
        &mut self,
        from: PeerId,
        request: u64,
        selection: &Selection,
        now: Instant,
        inspector: &dyn Inspector<F>,
    ) -> Result<(), Violation> {
        if self.queries.values().any(|query| query.from == from) {
            return Err(Violation("a question before the answer to the last one".to_owned()));
        }
        let Some(peer) = self.peers.get(&from) else { return Ok(()) };
        let grants = peer.grants.clone().unwrap_or_else(Grants::all);
        let may_see = |name: &str| grants.may_subscribe(name).is_ok() || grants.may_publish(name).is_ok();
        let is_selected = |name: &str| match selection {
            Selection::After(last) => name > last.as_str(),
            Selection::Named(wanted) => name == wanted,
        };
        let mut schemas: BTreeMap<String, Schema> = inspector.own_topics().into_iter().collect();
        let shared = self.topics.iter().map(|(name, topic)| (name.clone(), topic.schema.clone()));
        schemas.extend(shared);
        schemas.retain(|name, _| is_selected(name) && may_see(name));
        let (mut topics, mut bytes) = (Vec::new(), 0);
        let mut places: BTreeMap<ChannelKey, (usize, usize)> = BTreeMap::new();
        let mut is_last = true;
        for (name, schema) in schemas {
            let (topic, keys) = self.describe(name, &schema);
            bytes += postcard::to_stdvec(&topic).map_or(PAGE, |bytes| bytes.len());
            if bytes > PAGE && !topics.is_empty() {
                is_last = false;
                break;
            }
            places.extend(keys.into_iter().enumerate().map(|(place, key)| (key, (topics.len(), place))));
            topics.push(topic);
        }
        let owners: BTreeSet<PeerId> = places.keys().map(|key: &ChannelKey| key.0).collect();
        let asked =
            self.peers.iter_mut().filter(|(id, peer)| owners.contains(id) && peer.reports_owed < MAX_OWED);
        let awaited: BTreeSet<PeerId> = asked
            .map(|(&id, peer)| {
                peer.reports_owed += 1;
                id
            })
            .collect();
        let deadline = now + REPORT_PATIENCE;
        let number = self.next_query;
        self.next_query += 1;
        for &peer in &awaited {
            let channels = places.keys().filter(|key| key.0 == peer).map(|key| key.1).collect();
            self.send(peer, Notice::Report { query: number, channels });
        }
        self.queries.insert(number, Query { from, request, topics, is_last, places, awaited, deadline });
        self.answer_if_complete(number);
        Ok(())
    }

    /// Lists a topic's participants, and the keys of the publishers in the same order.
    fn describe(&self, name: String, schema: &Schema) -> (HostTopic, Vec<ChannelKey>) {
        let topic = self.topics.get(&name);
        // Of a walled publisher, the copies are listed.
        let is_listed = |key: &ChannelKey| {
            self.channels.get(key).is_some_and(|one| !matches!(one.audience, Audience::Wall))
        };
        let all_keys = topic.into_iter().flat_map(|topic| &topic.channels).copied().filter(is_listed);
        let keys: Vec<_> = all_keys.clone().take(MAX_LISTED).collect();
        let publishers = keys.iter().filter_map(|key| {
            let channel = self.channels.get(key)?;
            let process = match &channel.audience {
                Audience::SubscribersExcept(origin) => origin.label.clone(),
                _ => self.record(key.0).label,
            };
            let PublisherRecord { number, name, relay, .. } = channel.publisher.clone();
            Some(HostPublisher { number, name, process, relay, counters: None })
        });
        let publishers = publishers.collect();
        let subscribers = topic.into_iter().flat_map(|topic| &topic.subscribers).take(MAX_LISTED);
        let subscribers = subscribers.map(|&peer| self.record(peer).label).collect();
        let all = all_keys.count() + topic.map_or(0, |topic| topic.subscribers.len());
        let mut described = HostTopic { name, schema: schema.into(), publishers, subscribers, omitted: 0 };
        let listed = described.publishers.len() + described.subscribers.len();
        described.omitted = u32::try_from(all - listed).unwrap_or(u32::MAX);
        (described, keys)
    }

    /// Handles a process's report of its publishers' counters.
    pub(super) fn reported(
        &mut self,
        from: PeerId,
        number: u64,
        counters: Vec<(ChannelNumber, PublisherCounters)>,
    ) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.reports_owed = peer.reports_owed.saturating_sub(1);
        }
        // It may have been answered without the report.
        let Some(query) = self.queries.get_mut(&number) else { return };
        if !query.awaited.remove(&from) {
            return;
        }
        for (channel, mut counters) in counters {
            counters.cut_names();
            let place = query.places.get(&(from, channel));
            let publisher =
                place.and_then(|&(topic, place)| query.topics.get_mut(topic)?.publishers.get_mut(place));
            if let Some(publisher) = publisher {
                publisher.counters = Some(counters);
            }
        }
        self.answer_if_complete(number);
    }

    /// Answers questions that have waited for reports long enough.
    pub(super) fn answer_late_queries(&mut self, now: Instant) {
        let late: Vec<_> = self.queries.extract_if(.., |_, query| query.deadline <= now).collect();
        late.into_iter().for_each(|(_, query)| self.answer(query));
    }

    /// Removes a process from all questions.
    pub(super) fn forget_queries(&mut self, peer: PeerId) {
        self.queries.retain(|_, query| query.from != peer);
        let waiting = self
            .queries
            .iter_mut()
            .filter_map(|(&number, query)| query.awaited.remove(&peer).then_some(number));
        let waiting: Vec<_> = waiting.collect();
        waiting.into_iter().for_each(|number| self.answer_if_complete(number));
    }

    fn answer_if_complete(&mut self, number: u64) {
        if self.queries.get(&number).is_some_and(|query| query.awaited.is_empty())
            && let Some(query) = self.queries.remove(&number)
        {
            self.answer(query);
        }
    }

    /// Answers a question. Participants that do not fit into a packet are counted instead of listed.
    fn answer(&mut self, query: Query) {
        let Query { from, request, mut topics, mut is_last, .. } = query;
        let mut most = MAX_LISTED;
        loop {
            let notice = Notice::Topics { request, topics: topics.clone(), is_last };
            if notice.encode().is_ok() {
                return self.send(from, notice);
            }
            if most == 0 && topics.len() > 1 {
                // The process asks for them again.
                topics.truncate(topics.len() / 2);
                is_last = false;
            } else if most == 0 {
                // The text of a schema almost fills a packet.
                topics.iter_mut().for_each(|topic| topic.schema.cut());
            }
            most /= 2;
            topics.iter_mut().for_each(|topic| topic.keep(most));
        }
    }
}
