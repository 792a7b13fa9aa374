//! The topics to which a [`Node`]'s process subscribes, and the channels of other processes.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use blockcast_blocks::shield::event;
use blockcast_blocks::{
    Bell, Channel, ChannelConfig, OpenError, PublisherId, Schema, SegmentFiles, Trust, text,
};

use super::publishers::answer;
use super::{Node, Session, file_id, owned, reason};
use crate::control::topic::Topic;
use crate::peers::link::{Farewell, Reply};
use crate::peers::options::Terms;
use crate::peers::protocol::{FileId, PeerId, PeerRecord, PublisherRecord, Refusal, Request, SeatId};
use crate::peers::socket::File;

/// Maximum number of publishers that a process remembers having left while there was no host.
const MAX_DEPARTED: usize = 1024;

/// A topic to which this process subscribes.
#[derive(Debug)]
pub(super) struct Interest {
    topic: Weak<Topic>,
    /// The subscriptions.
    tickets: BTreeSet<u64>,
    /// The request that the host answers.
    request: u64,
    /// Whether publishers of other processes may come back.
    is_expected: bool,
    /// The threads that wait until the existing publishers are members of the topic. `None` once they are.
    opening: Option<Opening>,
}

#[derive(Debug, Default)]
struct Opening {
    replies: Vec<Option<Reply>>,
    /// The seats that are not settled, once the host has named them.
    unsettled: Option<BTreeSet<SeatId>>,
    /// Why a channel cannot be opened here.
    failure: Option<String>,
}

/// This process's part in a channel of another one.
#[derive(Debug)]
pub(super) struct RemoteSeat {
    pub(super) channel: Weak<Channel>,
    /// The channel, until the publisher's process has attached us. From then on, the topic has it.
    pub(super) offered: Option<Arc<Channel>>,
    pub(super) topic: Weak<Topic>,
    pub(super) topic_name: String,
    pub(super) owner: (Session, PeerId),
    /// The number of the bell.
    pub(super) bell: u64,
    /// The number that the publisher's messages carry.
    pub(super) number: u64,
    /// The file of the control segment.
    pub(super) file: FileId,
    /// The file of this process's annex.
    pub(super) annex: Option<FileId>,
    /// The publisher's name, and its process.
    pub(super) label: String,
}

impl Node {
    pub(super) fn subscribe(&mut self, ticket: u64, topic: &Arc<Topic>, reply: Option<Reply>) {
        if !self.is_connected {
            answer(reply, Err(OpenError::Disconnected));
            return;
        }
        let name = topic.name().to_owned();
        if let Some(interest) = self.interests.get_mut(&name)
            && std::ptr::eq(interest.topic.as_ptr(), Arc::as_ptr(topic))
        {
            interest.tickets.insert(ticket);
            match &mut interest.opening {
                Some(opening) => opening.replies.push(reply),
                None => answer(reply, Ok(())),
            }
            return;
        }
        // The broker has removed the former topic of that name, and its last subscription is about to say so.
        self.drop_interest(&name, &OpenError::Closed);
        let request = self.next_request;
        self.next_request += 1;
        self.send(Request::Subscribe { request, topic: name.clone(), schema: topic.schema().into() });
        let opening = Some(Opening { replies: vec![reply], ..Opening::default() });
        let (topic, tickets) = (Arc::downgrade(topic), BTreeSet::from([ticket]));
        let interest = Interest { topic, tickets, request, is_expected: false, opening };
        self.interests.insert(name, interest);
    }

    pub(super) fn unsubscribe(&mut self, ticket: u64, topic: &str) {
        let Some(interest) = self.interests.get_mut(topic) else { return };
        if interest.tickets.remove(&ticket) && interest.tickets.is_empty() {
            self.drop_interest(topic, &OpenError::Closed);
        }
    }

    fn drop_interest(&mut self, topic: &str, error: &OpenError) {
        self.expect(topic, false);
        let Some(interest) = self.interests.remove(topic) else { return };
        for reply in interest.opening.into_iter().flat_map(|opening| opening.replies) {
            answer(reply, Err(error.clone()));
        }
        self.send(Request::Unsubscribe { topic: topic.to_owned() });
        // Channels in use say farewell when they no longer are.
        let seats = || self.seats.values().filter(|seat| seat.topic_name == topic);
        let channels: Vec<_> = seats().filter_map(|seat| seat.channel.upgrade()).collect();
        interest.topic.upgrade().inspect(|topic| topic.remove_remotes(&channels));
        let offered = self.seats.values_mut().filter(|seat| seat.topic_name == topic);
        let offered: Vec<_> = offered.filter_map(|seat| seat.offered.take()).collect();
        drop((channels, offered));
    }

    /// Handles the host's answer to [`Request::Subscribe`]: it has offered these channels before.
    pub(super) fn subscribed(&mut self, request: u64, seats: &[SeatId]) {
        let is_unsettled = |seat: &&SeatId| {
            self.seats.get(&(self.session, **seat)).is_some_and(|seat| seat.offered.is_some())
        };
        let unsettled = seats.iter().filter(is_unsettled).copied().collect();
        let found = self.interests.iter_mut().find(|(_, interest)| interest.request == request);
        let Some((topic, interest)) = found else { return };
        let topic = topic.clone();
        if let Some(opening) = &mut interest.opening {
            opening.unsettled = Some(unsettled);
        }
        self.check_opening(&topic);
    }

    pub(super) fn subscribe_refused(&mut self, request: u64, why: Refusal) {
        let found = self.interests.iter().find(|(_, interest)| interest.request == request);
        let Some(name) = found.map(|(name, _)| name.clone()) else { return };
        self.expect(&name, false);
        let Some(interest) = self.interests.remove(&name) else { return };
        let Some(topic) = interest.topic.upgrade() else { return };
        let error = why.into_error(&name, topic.schema(), "subscribe");
        // Through a former host, it was open already.
        let replies = interest.opening.map_or_else(|| vec![None], |opening| opening.replies);
        for reply in replies {
            if reply.is_none() {
                let (topic, error) = (&*text::line(&name), error.to_string());
                event(|| tracing::warn!(topic, error, "a subscriber is not linked with other processes"));
            }
            answer(reply, Err(error.clone()));
        }
    }

    /// Publishers of other processes may come back after a restart, or no longer.
    pub(super) fn expect(&mut self, topic: &str, is_expected: bool) {
        let Some(interest) = self.interests.get_mut(topic) else { return };
        if std::mem::replace(&mut interest.is_expected, is_expected) == is_expected {
            return;
        }
        match interest.topic.upgrade() {
            Some(topic) if is_expected => topic.expect(),
            Some(topic) => topic.forget(),
            None => {}
        }
    }

    /// The host is gone, and restarts nothing any more.
    pub(super) fn expect_nothing(&mut self) {
        let topics: Vec<_> = self.interests.keys().cloned().collect();
        topics.iter().for_each(|topic| self.expect(topic, false));
    }

    /// Opens a channel that the host offers.
    pub(super) fn take_seat(
        &mut self,
        seat: SeatId,
        topic: &str,
        publisher: PublisherRecord,
        owner: &PeerRecord,
        terms: Terms,
        files: [File; 4],
    ) {
        let interest = self.interests.get(topic).and_then(|interest| interest.topic.upgrade());
        let Some(topic) = interest else {
            self.send(Request::Declined { seat, why: "nobody subscribes to the topic any more".to_owned() });
            return;
        };
        let file = file_id(&files[0]);
        if file.is_some_and(|file| self.has_joined(publisher.number, file)) {
            self.send(Request::Declined { seat, why: "joined already, by a former host".to_owned() });
            return;
        }
        let label = label(&publisher.name, &owner.label);
        let trust = terms.trust();
        let mut config = channel_config(&publisher, topic.schema());
        config.component_number = topic.component_number(publisher.number);
        match self.open_channel(seat, config, owner, (terms, trust), files) {
            Ok((channel, annex, bell)) => {
                let owner = (self.session, owner.id);
                let remote = RemoteSeat {
                    channel: Arc::downgrade(&channel),
                    offered: Some(channel),
                    topic: Arc::downgrade(&topic),
                    topic_name: topic.name().to_owned(),
                    owner,
                    bell,
                    number: publisher.number,
                    file: file.unwrap_or_default(),
                    annex: file_id(&annex),
                    label,
                };
                self.seats.insert((self.session, seat), remote);
                self.send_with(Request::Annex { seat }, vec![annex]);
            }
            Err(why) => {
                let (publisher, topic_name) = (&*text::line(&label), topic.name());
                event(|| {
                    tracing::warn!(
                        topic = topic_name,
                        publisher,
                        why,
                        "a publisher of another process cannot be joined"
                    );
                });
                let topic = topic_name.to_owned();
                self.cannot_join(seat, &topic, why);
            }
        }
    }

    /// Declines a seat that this process cannot take. This fails a subscription that is being opened.
    pub(super) fn cannot_join(&mut self, seat: SeatId, topic: &str, why: String) {
        self.fail_opening(topic, &why);
        self.send(Request::Declined { seat, why });
    }

    fn fail_opening(&mut self, topic: &str, why: &str) {
        let interest = self.interests.get_mut(topic);
        if let Some(opening) = interest.and_then(|interest| interest.opening.as_mut()) {
            opening.failure = Some(why.to_owned());
        }
    }

    /// Whether we have joined a publisher that the host offers through a former host.
    fn has_joined(&self, number: u64, file: FileId) -> bool {
        self.seats.iter().any(|((session, _), remote)| {
            *session != self.session
                && (remote.number, remote.file) == (number, file)
                && remote.channel.strong_count() > 0
        })
    }

    pub(super) fn open_channel(
        &mut self,
        seat: SeatId,
        config: ChannelConfig,
        owner: &PeerRecord,
        (terms, trust): (Terms, Trust),
        files: [File; 4],
    ) -> Result<(Arc<Channel>, File, u64), String> {
        let [control, arena, bell, pidfd] = files;
        let files = SegmentFiles { control: owned(control).map_err(|error| reason(&error))?, arena };
        let bell = owned(bell).map_err(|error| reason(&error))?;
        let bell = Bell::from_fd(bell).map_err(|error| reason(&error))?;
        let annex_terms = terms.annex("");
        // SAFETY: the program trusts the processes that may publish, by the options with which it serves or
        // connects. A node attaches every annex before it says so, and detaches one only when the process has
        // ended (`process_ended`) or has dropped the channel (`release`). Unless told otherwise, by an unsafe
        // option of the host, no message counts as valid. Walls trust nobody, and only copy messages
        // (`Passage::copy`).
        let opened = unsafe { Channel::open_remote(files, config, &annex_terms, trust, bell.clone()) };
        let (channel, annex) = opened.map_err(|error| reason(&error))?;
        // A new channel has no charge.
        let _ = channel.charge(Box::new(Farewell::new(self.session, seat, &self.commands)));
        let bell = self.bells.add(bell, &channel).map_err(|error| reason(&error))?;
        self.watch(owner.id, &pidfd).map_err(|error| {
            self.bells.remove(bell);
            reason(&error)
        })?;
        Ok((channel, Arc::new(annex), bell))
    }

    /// Joins the topic's subscriptions to the channel, once the publisher's process has attached us.
    pub(super) fn join(&mut self, seat: SeatId) {
        let Some(remote) = self.seats.get_mut(&(self.session, seat)) else { return };
        let Some(channel) = remote.offered.take() else { return };
        if self.wall.is_some() {
            return self.open_copies(seat, &channel);
        }
        let (topic, topic_name, label) =
            (remote.topic.upgrade(), remote.topic_name.clone(), remote.label.clone());
        // Otherwise, dropping the channel says farewell.
        if let Some(topic) = topic {
            topic.add_remote(&channel, label);
            self.send(Request::Joined { seat });
        }
        self.settle(&topic_name, seat);
    }

    /// Gives up a seat that does not come about, unless we have joined already.
    pub(super) fn seat_failed(&mut self, key: (Session, SeatId), why: String, is_error: bool) {
        let Some(remote) = self.seats.get(&key).filter(|remote| remote.offered.is_some()) else { return };
        let topic = remote.topic_name.clone();
        {
            let (topic, why) = (&*text::line(&topic), &*text::line(&why));
            event(|| tracing::debug!(topic, why, "a publisher of another process was not joined"));
        }
        if is_error {
            self.fail_opening(&topic, &why);
        }
        if let Some(remote) = self.seats.remove(&key) {
            self.bells.remove(remote.bell);
            self.unwatch(remote.owner);
        }
        self.settle(&topic, key.1);
    }

    /// Stops waiting for a publisher's process that does not answer. The subscriptions join once it does.
    pub(super) fn publisher_is_late(&mut self, seat: SeatId) {
        let Some(remote) = self.seats.get(&(self.session, seat)) else { return };
        let (topic, publisher) = (remote.topic_name.clone(), &*text::line(&remote.label));
        event(|| tracing::warn!(topic, publisher, "a publisher of another process does not answer"));
        self.settle(&topic, seat);
    }

    /// Handles the end of a seat's publisher.
    pub(super) fn publisher_ended(&mut self, seat: SeatId) {
        let Some(remote) = self.seats.get(&(self.session, seat)) else { return };
        if let (Some(channel), Some(topic)) = (remote.channel.upgrade(), remote.topic.upgrade()) {
            topic.publisher_left(&channel);
        }
    }

    /// Ends the publishers of a process that has ended.
    pub(super) fn end_publishers_of(&mut self, ended: (Session, PeerId)) {
        let seats = self.seats.iter().filter(|(_, remote)| remote.owner == ended);
        let seats: Vec<_> =
            seats.map(|(&key, remote)| (key, remote.channel.upgrade(), remote.topic.upgrade())).collect();
        for (key, channel, topic) in seats {
            let Some(channel) = channel else { continue };
            channel.publisher_is_gone();
            topic.inspect(|topic| topic.publisher_left(&channel));
            self.seat_failed(key, "the publisher's process has ended".to_owned(), false);
        }
    }

    /// Releases a channel that this process no longer uses.
    pub(super) fn release(&mut self, session: Session, seat: SeatId) {
        let Some(remote) = self.seats.remove(&(session, seat)) else { return };
        self.bells.remove(remote.bell);
        self.unwatch(remote.owner);
        if session == self.session && self.is_connected {
            self.send(Request::Left { seat });
            return;
        }
        if self.departed.len() >= MAX_DEPARTED {
            self.departed.pop_front();
        }
        // Without it, the publisher learns when this process ends.
        let (publisher, Some(annex)) = (remote.number, remote.annex) else { return };
        self.departed.push_back((publisher, annex));
        self.send(Request::LeftBefore { publisher, annex });
    }

    /// Tells a new host of the publishers that this process has left while there was none.
    pub(super) fn leave_former(&mut self) {
        let departed: Vec<_> = self.departed.iter().copied().collect();
        for (publisher, annex) in departed {
            self.send(Request::LeftBefore { publisher, annex });
        }
    }

    /// Subscribes again at a new host.
    pub(super) fn resubscribe(&mut self) {
        let topics: Vec<_> =
            self.interests.iter().map(|(name, one)| (name.clone(), one.topic.upgrade())).collect();
        for (name, topic) in topics {
            let Some(topic) = topic else { continue };
            let request = self.next_request;
            self.next_request += 1;
            self.send(Request::Subscribe { request, topic: name.clone(), schema: topic.schema().into() });
            if let Some(interest) = self.interests.get_mut(&name) {
                interest.request = request;
            }
        }
    }

    /// Fails the subscriptions that are being opened.
    pub(super) fn fail_interests(&mut self, error: &OpenError) {
        let opening = self.interests.iter().filter(|(_, interest)| interest.opening.is_some());
        let opening: Vec<_> = opening.map(|(name, _)| name.clone()).collect();
        opening.iter().for_each(|topic| self.drop_interest(topic, error));
        let offered: Vec<_> = self.seats.values_mut().filter_map(|seat| seat.offered.take()).collect();
        drop(offered);
    }

    fn settle(&mut self, topic: &str, seat: SeatId) {
        let Some(interest) = self.interests.get_mut(topic) else { return };
        let unsettled = interest.opening.as_mut().and_then(|opening| opening.unsettled.as_mut());
        if unsettled.is_some_and(|unsettled| unsettled.remove(&seat)) {
            self.check_opening(topic);
        }
    }

    /// Answers the waiting threads if nothing is unsettled any more.
    fn check_opening(&mut self, topic: &str) {
        let Some(interest) = self.interests.get_mut(topic) else { return };
        let is_settled = |opening: &mut Opening| opening.unsettled.as_ref().is_some_and(BTreeSet::is_empty);
        let Some(opening) = interest.opening.take_if(is_settled) else { return };
        match opening.failure {
            None => opening.replies.into_iter().for_each(|reply| answer(reply, Ok(()))),
            Some(why) => {
                interest.opening = Some(Opening { replies: opening.replies, ..Opening::default() });
                self.drop_interest(
                    topic,
                    &OpenError::Refused(format!("a publisher cannot be joined: {why}")),
                );
            }
        }
    }
}

/// Names a publisher of another process for statistics.
fn label(publisher: &str, process: &str) -> String {
    if publisher.is_empty() { process.to_owned() } else { format!("{publisher}, {process}") }
}

/// How a publisher of another process was made, as far as the host says.
pub(super) fn channel_config(publisher: &PublisherRecord, schema: &Schema) -> ChannelConfig {
    let mut config = ChannelConfig::new(PublisherId::new(publisher.number), schema.clone());
    config.history = publisher.history;
    config
}
