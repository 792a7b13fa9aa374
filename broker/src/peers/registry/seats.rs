//! The seats of a [`Registry`]: from the answer to an offer until the subscribing process leaves.

use std::time::Instant;

use blockcast_blocks::shield::event;
use blockcast_blocks::text;

use super::{ChannelKey, MAX_SEATS, Registry, Seat, SeatState, Stalled, Violation};
use crate::peers::protocol::{FileId, MAX_TEXT, Notice, PeerId, SeatId};

impl<F: Clone> Registry<F> {
    /// Passes the annex on to the publisher's process.
    pub(super) fn take_annex(
        &mut self,
        from: PeerId,
        id: SeatId,
        annex: F,
        now: Instant,
    ) -> Result<(), Violation> {
        let Some((key, _)) = self.seat_of_subscriber(from, id, &[SeatState::Offered])? else {
            self.offer_answered(from, id);
            return Ok(());
        };
        let deadline = now + self.patience;
        let Some(seat) = self.seats.get_mut(&id) else { return Ok(()) };
        let Some(bell) = seat.bell.take() else {
            return Err(Violation(format!("an annex for seat {}, whose channel it was not given", id.0)));
        };
        // It still counts.
        (seat.state, seat.deadline) = (SeatState::Attaching, Some(deadline));
        self.attaching.insert((deadline, id));
        let (subscriber, terms) = (self.record(from), self.terms(from));
        let Some(peer) = self.peers.get(&from) else { return Ok(()) };
        let files = vec![annex, bell, peer.pidfd.clone()];
        let notice = Notice::Attach { seat: id, channel: key.1, subscriber, terms };
        self.send_with(key.0, notice, files);
        if !self.waits_for(key.0) {
            self.stop_counting(key.0);
        }
        Ok(())
    }

    /// Handles an annex that cannot be passed on.
    pub(super) fn annex_failed(&mut self, from: PeerId, id: SeatId, why: &str) -> Result<(), Violation> {
        if self.seat_of_subscriber(from, id, &[SeatState::Offered])?.is_some() {
            self.send(from, Notice::Failed { seat: id, why: why.to_owned(), is_error: true });
            self.remove_seat(id);
        }
        self.offer_answered(from, id);
        Ok(())
    }

    pub(super) fn decline(&mut self, from: PeerId, id: SeatId, why: &str) -> Result<(), Violation> {
        if self.seat_of_subscriber(from, id, &[SeatState::Offered])?.is_some() {
            let process = self.peers.get(&from).map_or("", |peer| &peer.label);
            event(|| tracing::debug!(process, why, "a process does not join a publisher"));
            self.remove_seat(id);
        }
        self.offer_answered(from, id);
        Ok(())
    }

    pub(super) fn attached(&mut self, from: PeerId, id: SeatId) -> Result<(), Violation> {
        if let Some(subscriber) = self.seat_of_publisher(from, id)? {
            self.set_state(id, SeatState::Attached);
            self.send(subscriber, Notice::Attached { seat: id });
            self.go_on(subscriber);
        }
        Ok(())
    }

    pub(super) fn not_attached(
        &mut self,
        from: PeerId,
        id: SeatId,
        mut why: String,
    ) -> Result<(), Violation> {
        if let Some(subscriber) = self.seat_of_publisher(from, id)? {
            why.truncate(why.floor_char_boundary(MAX_TEXT));
            self.send(subscriber, Notice::Failed { seat: id, is_error: !why.is_empty(), why });
            self.remove_seat(id);
        }
        Ok(())
    }

    pub(super) fn joined(&mut self, from: PeerId, id: SeatId) -> Result<(), Violation> {
        if self.seat_of_subscriber(from, id, &[SeatState::Attached])?.is_some() {
            self.set_state(id, SeatState::Joined);
            self.answered(id);
        }
        Ok(())
    }

    pub(super) fn left(&mut self, from: PeerId, id: SeatId) -> Result<(), Violation> {
        let any = [SeatState::Attaching, SeatState::Attached, SeatState::Joined];
        if let Some((key, _)) = self.seat_of_subscriber(from, id, &any)? {
            self.send(key.0, Notice::Left { seat: id });
            self.remove_seat(id);
        }
        Ok(())
    }

    /// Handles a process that has left a publisher joined through a former host.
    pub(super) fn left_before(&mut self, from: PeerId, publisher: u64, annex: FileId) {
        let mut channels = self.channels.iter();
        let known = channels.find(|(key, channel)| key.0 != from && channel.publisher.number == publisher);
        if let Some((&(owner, channel), _)) = known {
            self.send(owner, Notice::LeftBefore { channel, annex });
        } else if let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.departed.len() < MAX_SEATS) {
            // Its process has not announced it yet.
            peer.departed.push((publisher, annex));
        }
    }

    /// Tells the process of an announced publisher which subscribers left it while there was no host.
    pub(super) fn tell_departed(&mut self, key: ChannelKey, publisher: u64) {
        let others = self.peers.iter_mut().filter(|(peer, _)| **peer != key.0);
        let departed =
            others.flat_map(|(_, peer)| peer.departed.extract_if(.., |(number, _)| *number == publisher));
        let departed: Vec<_> = departed.collect();
        for (_, annex) in departed {
            self.send(key.0, Notice::LeftBefore { channel: key.1, annex });
        }
    }

    pub(super) fn note_stalled(&mut self, from: PeerId, id: SeatId) -> Result<(), Violation> {
        if self.terms.stall().is_none() {
            return Err(Violation("subscribers may stall publishers".to_owned()));
        }
        let Some(seat) = self.known_seat(id)? else { return Ok(()) };
        let is_attached = matches!(seat.state, SeatState::Attached | SeatState::Joined);
        if seat.channel.0 != from || !is_attached {
            return Err(Violation(format!("a report about seat {} that it cannot give", id.0)));
        }
        let topic =
            self.channels.get(&seat.channel).map_or_else(String::new, |channel| channel.topic.clone());
        // The host's own process lives on: it has no grants, as it has no limits.
        if self.peers.get(&seat.subscriber).is_some_and(|peer| peer.grants.is_some()) {
            self.stalled.push(Stalled { subscriber: seat.subscriber, reporter: from, topic });
        }
        Ok(())
    }

    /// Removes the channel of a publisher that has ended.
    pub(super) fn close_channel(&mut self, key: ChannelKey) {
        self.remove_channel(key, |seat, state| match state {
            SeatState::Waiting | SeatState::Offered | SeatState::Attaching => {
                Notice::Failed { seat, why: "the publisher has ended".to_owned(), is_error: false }
            }
            SeatState::Attached | SeatState::Joined => Notice::Ended { seat },
        });
    }

    /// Removes the channel of a process that was disconnected. Subscribers that have joined go on: the
    /// publisher ends when its process does.
    pub(super) fn abandon_channel(&mut self, key: ChannelKey) {
        self.remove_channel(key, |seat, _| Notice::Failed {
            seat,
            why: "the publisher's process is no longer connected".to_owned(),
            is_error: false,
        });
    }

    fn remove_channel(&mut self, key: ChannelKey, farewell: impl Fn(SeatId, SeatState) -> Notice) {
        let Some(channel) = self.channels.remove(&key) else { return };
        if let Some(peer) = self.peers.get_mut(&key.0) {
            peer.bytes = peer.bytes.saturating_sub(channel.bytes);
            peer.publishers -= 1;
            let (topic, publisher) = (&*text::line(&channel.topic), &channel.publisher.name);
            event(|| tracing::info!(topic, publisher, process = peer.label, "publisher left"));
        }
        for id in channel.seats {
            let Some(seat) = self.forget_seat(id) else { continue };
            if seat.state != SeatState::Waiting {
                self.send(seat.subscriber, farewell(id, seat.state));
            }
            self.go_on(seat.subscriber);
        }
        if let Some(topic) = self.topics.get_mut(&channel.topic) {
            topic.channels.remove(&key);
        }
        self.forget_unused(&channel.topic);
    }

    pub(super) fn remove_seat(&mut self, id: SeatId) {
        self.answered(id);
        let Some(seat) = self.forget_seat(id) else { return };
        if let Some(channel) = self.channels.get_mut(&seat.channel) {
            channel.seats.remove(&id);
        }
        self.go_on(seat.subscriber);
    }

    fn forget_seat(&mut self, id: SeatId) -> Option<Seat<F>> {
        let seat = self.seats.remove(&id)?;
        self.leave_state(id, &seat);
        if let Some(peer) = self.peers.get_mut(&seat.subscriber) {
            peer.seats -= 1;
        }
        Some(seat)
    }

    /// A publisher that is being opened stops waiting for this seat.
    fn answered(&mut self, id: SeatId) {
        let Some(seat) = self.seats.get(&id) else { return };
        let (peer, number) = seat.channel;
        let Some(channel) = self.channels.get_mut(&seat.channel) else { return };
        let Some((awaited, _)) = &mut channel.awaited else { return };
        awaited.remove(&id);
        if awaited.is_empty() {
            channel.awaited = None;
            self.send(peer, Notice::Opened { channel: number });
        }
    }

    fn set_state(&mut self, id: SeatId, state: SeatState) {
        if let Some(mut seat) = self.seats.remove(&id) {
            self.leave_state(id, &seat);
            (seat.state, seat.counts, seat.deadline) = (state, false, None);
            self.seats.insert(id, seat);
        }
    }

    /// Returns the channel of a seat that its subscribing process refers to. `None` if the seat was removed
    /// meanwhile, which the process may not know yet.
    fn seat_of_subscriber(
        &self,
        from: PeerId,
        id: SeatId,
        states: &[SeatState],
    ) -> Result<Option<(ChannelKey, SeatState)>, Violation> {
        let Some(seat) = self.known_seat(id)? else { return Ok(None) };
        if seat.subscriber != from || !states.contains(&seat.state) {
            return Err(Violation(format!("an answer for seat {} that it cannot give", id.0)));
        }
        Ok(Some((seat.channel, seat.state)))
    }

    /// Returns the subscribing process of a seat that the publisher's process was asked to attach.
    fn seat_of_publisher(&self, from: PeerId, id: SeatId) -> Result<Option<PeerId>, Violation> {
        let Some(seat) = self.known_seat(id)? else { return Ok(None) };
        if seat.channel.0 != from || seat.state != SeatState::Attaching {
            return Err(Violation(format!("an answer for seat {} that it cannot give", id.0)));
        }
        Ok(Some(seat.subscriber))
    }

    fn known_seat(&self, id: SeatId) -> Result<Option<&Seat<F>>, Violation> {
        if id.0 >= self.next_seat {
            return Err(Violation(format!("seat {} does not exist", id.0)));
        }
        Ok(self.seats.get(&id))
    }
}
