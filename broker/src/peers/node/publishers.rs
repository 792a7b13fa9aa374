//! A [`Node`]'s own publishers, and the processes that subscribe to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use blockcast_blocks::shield::event;
use blockcast_blocks::{AnnexError, AnnexId, Bell, Channel, OpenError, SegmentFiles, text};

use super::{Node, Session, file_id, owned, reason};
use crate::peers::link::Reply;
use crate::peers::options::Terms;
use crate::peers::protocol::{
    ChannelNumber, FileId, PeerId, PeerRecord, PublisherRecord, Refusal, Request, SeatId,
};
use crate::peers::socket::File;

/// Maximum length of a publisher's name in bytes.
const MAX_NAME: usize = 128;

/// A publisher of this process.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) channel: Weak<Channel>,
    pub(super) topic: String,
    /// The thread that waits until it is open.
    pub(super) reply: Option<Reply>,
    /// The processes that subscribe to it.
    pub(super) annexes: BTreeMap<(Session, SeatId), Attached>,
}

/// A process that subscribes to a publisher.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) annex: AnnexId,
    file: Option<FileId>,
    peer: (Session, PeerId),
    /// The number of the bell.
    bell: u64,
}

impl Node {
    pub(super) fn publish(
        &mut self,
        number: ChannelNumber,
        channel: &Arc<Channel>,
        topic: String,
        files: SegmentFiles,
        reply: Option<Reply>,
    ) {
        if !self.is_connected {
            answer(reply, Err(OpenError::Disconnected));
            return;
        }
        self.offer(number, channel, topic.clone(), files);
        let channel = Arc::downgrade(channel);
        self.published.insert(number, Published { channel, topic, reply, annexes: BTreeMap::new() });
    }

    pub(super) fn offer(
        &mut self,
        number: ChannelNumber,
        channel: &Channel,
        topic: String,
        files: SegmentFiles,
    ) {
        let name = text::line_within(channel.publisher_signal().name(), MAX_NAME).into_owned();
        let (config, own_number) = (channel.config(), channel.publisher().get());
        let (history, relay) = (config.history, config.relay);
        let publisher = PublisherRecord { number: own_number, name, history, relay };
        let schema = channel.schema().into();
        let files = vec![Arc::new(files.control), files.arena];
        self.send_with(Request::OpenPublisher { channel: number, topic, schema, publisher }, files);
    }

    pub(super) fn unpublish(&mut self, number: ChannelNumber) {
        let Some(published) = self.published.remove(&number) else { return };
        self.send(Request::ClosePublisher { channel: number });
        for attached in published.annexes.into_values() {
            self.bells.remove(attached.bell);
            self.unwatch(attached.peer);
        }
    }

    /// Handles the host's answer to [`Request::OpenPublisher`].
    pub(super) fn opened(&mut self, number: ChannelNumber, outcome: Result<(), Refusal>) {
        if !self.published.contains_key(&number) {
            return;
        }
        self.copies_opened(number, outcome.is_ok());
        let Some(published) = self.published.get_mut(&number) else { return };
        let reply = published.reply.take();
        let Err(why) = outcome else { return answer(reply, Ok(())) };
        let (topic, channel) = (published.topic.clone(), published.channel.upgrade());
        // Processes that have joined through a former host may die.
        if published.annexes.is_empty() {
            self.published.remove(&number);
        }
        let Some(channel) = channel else { return };
        let error = why.into_error(&topic, channel.schema(), "publish");
        if reply.is_none() {
            let (topic, error) = (&*text::line(&topic), error.to_string());
            event(|| tracing::warn!(topic, error, "a publisher is not linked with other processes"));
        }
        answer(reply, Err(error));
    }

    /// Attaches a process that subscribes to one of our publishers.
    pub(super) fn attach(
        &mut self,
        seat: SeatId,
        number: ChannelNumber,
        subscriber: &PeerRecord,
        terms: Terms,
        (annex, bell, pidfd): (File, File, File),
    ) {
        let key = (self.session, seat);
        let file = file_id(&annex);
        let channel = self.published.get(&number).and_then(|published| published.channel.upgrade());
        // Without a reason, the publisher has just ended.
        let attached = (|| {
            let channel = channel.ok_or_else(String::new)?;
            let annex = owned(annex).map_err(|error| reason(&error))?;
            let bell = owned(bell).map_err(|error| reason(&error))?;
            let bell = Bell::from_fd(bell).map_err(|error| reason(&error))?;
            // First, so that the process is watched from the moment it takes part.
            self.watch(subscriber.id, &pidfd).map_err(|error| reason(&error))?;
            let is_over = |node: &mut Self| node.unwatch((node.session, subscriber.id));
            let number = self.bells.add(bell.clone(), &channel).map_err(|error| {
                is_over(self);
                reason(&error)
            })?;
            let attached = channel.attach(annex, terms.annex(&subscriber.label), bell);
            let annex = attached.map_err(|error| {
                self.bells.remove(number);
                is_over(self);
                if error == AnnexError::Ended { String::new() } else { reason(&error) }
            })?;
            Ok((annex, number))
        })();
        match attached {
            Ok((annex, bell)) => {
                self.watch_stalls(terms.stall());
                if let Some(published) = self.published.get_mut(&number) {
                    let peer = (self.session, subscriber.id);
                    published.annexes.insert(key, Attached { annex, file, peer, bell });
                }
                self.send(Request::Attached { seat });
            }
            Err(why) => self.send(Request::NotAttached { seat, why }),
        }
    }

    /// Detaches a process that has dropped our channel.
    pub(super) fn detach(&mut self, seat: SeatId) {
        let key = (self.session, seat);
        let found = self.published.values_mut().find_map(|published| {
            let attached = published.annexes.remove(&key)?;
            Some((published.channel.upgrade(), attached))
        });
        let Some((channel, attached)) = found else { return };
        channel.inspect(|channel| drop(channel.detach(attached.annex)));
        self.bells.remove(attached.bell);
        self.unwatch(attached.peer);
    }

    /// Detaches a process that has dropped a channel joined through a former host.
    pub(super) fn detach_former(&mut self, number: ChannelNumber, file: FileId) {
        let session = self.session;
        let Some(published) = self.published.get_mut(&number) else { return };
        let is_it = |key: &(Session, SeatId), attached: &mut Attached| {
            key.0 != session && attached.file == Some(file)
        };
        let Some((_, attached)) = published.annexes.extract_if(.., is_it).next() else { return };
        published.channel.upgrade().inspect(|channel| drop(channel.detach(attached.annex)));
        self.bells.remove(attached.bell);
        self.unwatch(attached.peer);
    }

    /// Detaches a process that has ended.
    pub(super) fn detach_process(&mut self, ended: (Session, PeerId)) {
        for published in self.published.values_mut() {
            for (_, gone) in published.annexes.extract_if(.., |_, attached| attached.peer == ended) {
                published.channel.upgrade().inspect(|channel| drop(channel.detach(gone.annex)));
                self.bells.remove(gone.bell);
            }
        }
    }

    /// Offers all publishers again, to a new host.
    pub(super) fn republish(&mut self) {
        let published: Vec<_> = self
            .published
            .iter()
            .map(|(&number, one)| (number, one.channel.upgrade(), one.topic.clone()))
            .collect();
        for (number, channel, topic) in published {
            // One that has just ended cannot be shared.
            let Some(channel) = channel else { continue };
            let Ok(files) = channel.share() else { continue };
            self.offer(number, &channel, topic, files);
        }
    }

    /// Components of this process may publish on the topic again after a restart, or no longer.
    pub(super) fn say_expected(&mut self, topic: String, is_expected: bool) {
        let has_changed = match is_expected {
            true => self.expected.insert(topic.clone()),
            false => self.expected.remove(&topic),
        };
        if has_changed {
            self.send(Request::Expect { topic, is_expected });
        }
    }

    /// Tells a new host which publishers may come back.
    pub(super) fn say_expected_again(&mut self) {
        for topic in self.expected.clone() {
            self.send(Request::Expect { topic, is_expected: true });
        }
    }

    /// Fails the publishers that are being opened.
    pub(super) fn fail_openings(&mut self, error: &OpenError) {
        for published in self.published.values_mut() {
            answer(published.reply.take(), Err(error.clone()));
        }
    }
}

/// Sends the answer to the waiting thread, which may have given up.
pub(super) fn answer(reply: Option<Reply>, outcome: Result<(), OpenError>) {
    reply.inspect(|reply| drop(reply.send(outcome)));
}
