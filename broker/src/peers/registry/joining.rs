//! How publishers and subscribers join the topics of a [`Registry`], and subscribers leave.

use std::collections::BTreeSet;
use std::time::Instant;

use blockcast_blocks::shield::event;
use blockcast_blocks::{OpenError, Schema, text};

use super::{Audience, Channel, ChannelKey, Inspector, MAX_SEATS, Peer, Registry};
use crate::control::grants::Grants;
use crate::peers::protocol::{Notice, PeerId, PublisherRecord, Refusal, SchemaRecord, SeatId};

impl<F: Clone> Registry<F> {
    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    pub(super) fn open_publisher(
        &mut self,
        key: ChannelKey,
        topic: String,
        schema: SchemaRecord,
        publisher: PublisherRecord,
        (control, arena): (F, F),
        now: Instant,
        inspector: &dyn Inspector<F>,
    ) -> Result<(), Refusal> {
        let schema = Schema::from(schema);
        let peer = self.peers.get(&key.0).ok_or(Refusal::Closed)?;
        let limit = peer.grants.is_some().then(|| peer.limits.clone());
        check(peer, |grants| grants.may_publish(&topic))?;
        if let Some(limit) = limit.as_ref().filter(|limit| peer.publishers >= limit.publishers) {
            return Err(Refusal::Limit(format!("a process may have {} publishers", limit.publishers)));
        }
        self.check_schema(&topic, &schema)?;
        inspector.inspect_topic(&topic, &schema)?;
        let bytes = inspector.inspect_channel(&control, &arena)?;
        let used = peer.bytes.saturating_add(bytes);
        if let Some(limit) = limit.filter(|limit| used > limit.bytes) {
            return Err(Refusal::Limit(format!(
                "the publishers of a process may have {} bytes together, and this one makes it {used}",
                limit.bytes
            )));
        }
        self.count_topic(key.0, &topic, inspector)?;
        let name = text::line_within(&publisher.name, 255).into_owned();
        let number = publisher.number;
        let publisher = PublisherRecord { name, ..publisher };
        if let Some(peer) = self.peers.get_mut(&key.0) {
            peer.bytes = used;
            peer.publishers += 1;
        }
        let process = self.peers.get(&key.0).map_or("", |peer| &peer.label);
        event(|| {
            let (topic, publisher) = (&*text::line(&topic), &publisher.name);
            tracing::info!(topic, publisher, process, "publisher joined");
        });
        let audience = self.audience_of(key);
        let wall = self.wall.filter(|_| matches!(audience, Audience::Wall));
        let entry = self.topic(&topic, schema);
        entry.channels.insert(key);
        let subscribers = entry.subscribers.iter().copied().filter(|&peer| audience.includes(key.0, peer));
        let subscribers: Vec<_> = subscribers.chain(wall).collect();
        self.expect_restarts(key.0, &topic);
        let (seats, awaited) = (BTreeSet::new(), None);
        let channel = Channel { topic, publisher, control, arena, bytes, audience, seats, awaited };
        self.channels.insert(key, channel);
        let mut awaited = BTreeSet::new();
        for subscriber in subscribers {
            let offered = self.offer(key, subscriber);
            awaited.extend(offered.filter(|_| self.waits_for(subscriber)));
        }
        if awaited.is_empty() {
            self.send(key.0, Notice::Opened { channel: key.1 });
        } else if let Some(channel) = self.channels.get_mut(&key) {
            channel.awaited = Some((awaited, now + self.patience));
        }
        self.tell_departed(key, number);
        Ok(())
    }

    /// Adds a subscribing process to a topic, and offers it every channel of other processes. Returns the
    /// seats that it should wait for.
    pub(super) fn subscribe(
        &mut self,
        from: PeerId,
        topic: String,
        schema: SchemaRecord,
        inspector: &dyn Inspector<F>,
    ) -> Result<Vec<SeatId>, Refusal> {
        let schema = Schema::from(schema);
        let peer = self.peers.get(&from).ok_or(Refusal::Closed)?;
        check(peer, |grants| grants.may_subscribe(&topic))?;
        if peer.grants.is_some() && peer.subscriptions >= peer.limits.subscriptions {
            let limit = peer.limits.subscriptions;
            return Err(Refusal::Limit(format!("a process may subscribe to {limit} topics")));
        }
        self.check_schema(&topic, &schema)?;
        inspector.inspect_topic(&topic, &schema)?;
        let existing = self.topics.get(&topic).map(|topic| &topic.channels);
        let is_offered =
            |key: &ChannelKey| self.channels.get(key).is_some_and(|one| one.audience.includes(key.0, from));
        let others = existing.into_iter().flatten().copied().filter(is_offered);
        let others: Vec<_> = others.collect();
        if peer.seats + others.len() > MAX_SEATS {
            return Err(Refusal::Limit(format!("a process may take part in {MAX_SEATS} channels of others")));
        }
        self.count_topic(from, &topic, inspector)?;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.subscriptions += 1;
            event(|| tracing::info!(topic = &*text::line(&topic), process = peer.label, "subscriber joined"));
        }
        self.topic(&topic, schema).subscribers.insert(from);
        if self.is_expected(&topic, from) {
            self.send(from, Notice::Expect { topic, is_expected: true });
        }
        let mut awaited = Vec::new();
        for key in others {
            let offered = self.offer(key, from);
            awaited.extend(offered.filter(|_| self.waits_for(key.0)));
        }
        Ok(awaited)
    }

    pub(super) fn unsubscribe(&mut self, from: PeerId, name: &str) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        if topic.subscribers.remove(&from)
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.subscriptions -= 1;
            event(|| tracing::info!(topic = &*text::line(name), process = peer.label, "subscriber left"));
            self.withdraw_offers(from, name);
            // If it subscribes again, it is told again.
            if self.is_expected(name, from) {
                self.send(from, Notice::Expect { topic: name.to_owned(), is_expected: false });
            }
        }
        self.forget_unused(name);
    }
}

/// Checks the name of a topic, and the grants of a process unless it is the host's own.
fn check<F>(peer: &Peer<F>, may: impl FnOnce(&Grants) -> Result<(), OpenError>) -> Result<(), Refusal> {
    let all = Grants::all();
    match may(peer.grants.as_ref().unwrap_or(&all)) {
        Ok(()) => Ok(()),
        Err(OpenError::BadName(_)) => Err(Refusal::BadName),
        Err(_) => Err(Refusal::Denied),
    }
}
