//! The channels that a process is offered: a few at a time, so that the packets and descriptors on their way
//! to it stay few, even if a topic has thousands of publishers.

use std::collections::BTreeSet;

use super::{Audience, ChannelKey, MAX_SEATS, Registry, Seat, SeatState};
use crate::peers::protocol::{Notice, PeerId, PeerRecord, SeatId};
use blockcast_blocks::shield::event;

/// Maximum number of channels offered to a process before earlier offers are attached, or answered if they
/// were withdrawn meanwhile. Until then, the host has descriptors for each: an end of the bell, the annex,
/// and those of the channel, even if that has ended.
const MAX_OFFERED: usize = 8;

/// A message that waits until earlier offers are answered.
#[derive(Debug)]
pub(super) enum Waiting {
    Offer(SeatId),
    /// The answer to [`Request::Subscribe`](crate::peers::protocol::Request::Subscribe), after its offers.
    Subscribed {
        request: u64,
        topic: String,
        seats: Vec<SeatId>,
    },
}

impl<F: Clone> Registry<F> {
    /// Offers a channel to a process that subscribes to its topic.
    pub(super) fn offer(&mut self, key: ChannelKey, to: PeerId) -> Option<SeatId> {
        let peer = self.peers.get_mut(&to)?;
        if peer.seats >= MAX_SEATS {
            event(|| {
                tracing::warn!(process = peer.label, "a process takes part in too many channels of others")
            });
            return None;
        }
        let channel = self.channels.get_mut(&key)?;
        peer.seats += 1;
        let seat = SeatId(self.next_seat);
        self.next_seat += 1;
        channel.seats.insert(seat);
        let state = SeatState::Waiting;
        self.seats.insert(
            seat,
            Seat { channel: key, subscriber: to, state, bell: None, counts: false, deadline: None },
        );
        self.wait(to, Waiting::Offer(seat));
        Some(seat)
    }

    /// Queues a message behind those that already wait for the process.
    pub(super) fn wait(&mut self, to: PeerId, what: Waiting) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.waiting.push_back(what);
        }
        self.go_on(to);
    }

    /// Sends the messages that wait for a process, as far as they may be sent.
    pub(super) fn go_on(&mut self, to: PeerId) {
        while let Some(peer) = self.peers.get_mut(&to) {
            let may_offer = peer.offered < MAX_OFFERED;
            let next = peer.waiting.pop_front_if(|next| may_offer || !matches!(next, Waiting::Offer(_)));
            match next {
                None => return,
                Some(Waiting::Offer(seat)) => {
                    if !self.send_offer(to, seat) {
                        return;
                    }
                }
                Some(Waiting::Subscribed { request, seats, .. }) => {
                    self.send(to, Notice::Subscribed { request, seats });
                }
            }
        }
    }

    /// Returns `false` if the offer waits, because no descriptor is left until an earlier one is answered.
    fn send_offer(&mut self, to: PeerId, id: SeatId) -> bool {
        let Some(seat) = self.seats.get_mut(&id) else { return true };
        let key = seat.channel;
        if let Some(publisher) = self.peers.get_mut(&key.0).filter(|publisher| publisher.is_late) {
            // Nobody waits for it, so that its annexes need not wait here.
            publisher.held.push(id);
            return true;
        }
        let bell = (self.create_bell)();
        if bell.is_none()
            && let Some(peer) = self.peers.get_mut(&to).filter(|peer| peer.offered > 0)
        {
            peer.waiting.push_front(Waiting::Offer(id));
            return false;
        }
        let (Some(channel), Some(publisher)) = (self.channels.get(&key), self.peers.get(&key.0)) else {
            return true;
        };
        // Without any, the process declines.
        let files = bell.map_or_else(Vec::new, |(bell, publishers_bell)| {
            seat.bell = Some(publishers_bell);
            vec![channel.control.clone(), channel.arena.clone(), bell, publisher.pidfd.clone()]
        });
        let trust = publisher.trust;
        (seat.state, seat.counts) = (SeatState::Offered, true);
        let (topic, publisher) = (channel.topic.clone(), channel.publisher.clone());
        let owner = match &channel.audience {
            // The wall, under the name of the process whose messages it copies.
            Audience::SubscribersExcept(origin) => PeerRecord { id: key.0, ..origin.clone() },
            _ => self.record(key.0),
        };
        let terms = self.terms(to).with_trust(trust);
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.offered += 1;
        }
        self.send_with(to, Notice::Channel { seat: id, topic, publisher, owner, terms }, files);
        true
    }

    /// Call this when a seat leaves its state, before anything else is sent to its process.
    pub(super) fn leave_state(&mut self, id: SeatId, seat: &Seat<F>) {
        if let Some(deadline) = seat.deadline {
            self.attaching.remove(&(deadline, id));
        }
        if let Some(peer) = self.peers.get_mut(&seat.subscriber) {
            match seat.state {
                SeatState::Waiting => {
                    peer.waiting.retain(|next| !matches!(next, Waiting::Offer(seat) if *seat == id));
                }
                // It counts until the process has answered.
                SeatState::Offered => {
                    peer.withdrawn.insert(id);
                }
                _ => peer.offered -= usize::from(seat.counts),
            }
        }
        if seat.state == SeatState::Waiting
            && let Some(publisher) = self.peers.get_mut(&seat.channel.0)
        {
            publisher.held.retain(|held| *held != id);
        }
    }

    /// Stops counting an offer if it was withdrawn: the process has answered it.
    pub(super) fn offer_answered(&mut self, from: PeerId, id: SeatId) {
        if let Some(peer) = self.peers.get_mut(&from)
            && peer.withdrawn.remove(&id)
        {
            peer.offered -= 1;
            self.go_on(from);
        }
    }

    /// Stops counting the offers of a late process's channels, so that others are offered meanwhile.
    pub(super) fn stop_counting(&mut self, late: PeerId) {
        let mut subscribers = BTreeSet::new();
        for seat in self.seats.values_mut() {
            if seat.channel.0 == late && seat.state == SeatState::Attaching && seat.counts {
                seat.counts = false;
                subscribers.insert(seat.subscriber);
                if let Some(peer) = self.peers.get_mut(&seat.subscriber) {
                    peer.offered -= 1;
                }
            }
        }
        subscribers.into_iter().for_each(|subscriber| self.go_on(subscriber));
    }

    /// Offers the held channels of a process that is no longer late.
    pub(super) fn offer_held(&mut self, publisher: PeerId) {
        let held = self.peers.get_mut(&publisher).map(|peer| std::mem::take(&mut peer.held));
        for id in held.unwrap_or_default() {
            if let Some(seat) = self.seats.get(&id) {
                self.wait(seat.subscriber, Waiting::Offer(id));
            }
        }
    }

    /// Withdraws the offers that a process has not answered, because it has unsubscribed. Otherwise, if it
    /// subscribes again, it could take them and the new ones.
    pub(super) fn withdraw_offers(&mut self, from: PeerId, topic: &str) {
        if let Some(peer) = self.peers.get_mut(&from) {
            let is_answer =
                |next: &Waiting| matches!(next, Waiting::Subscribed { topic: one, .. } if one == topic);
            peer.waiting.retain(|next| !is_answer(next));
        }
        let channels = self.topics.get(topic).into_iter().flat_map(|topic| &topic.channels);
        let seats = channels.filter_map(|key| self.channels.get(key)).flat_map(|channel| &channel.seats);
        let is_open = |id: &&SeatId| {
            self.seats.get(id).is_some_and(|seat| {
                seat.subscriber == from && matches!(seat.state, SeatState::Waiting | SeatState::Offered)
            })
        };
        let mut open: Vec<_> = seats.filter(is_open).copied().collect();
        // First those that were not sent, because withdrawing others would make room for them.
        open.sort_by_key(|id| self.seats.get(id).is_some_and(|seat| seat.state == SeatState::Offered));
        for id in open {
            if self.seats.get(&id).is_some_and(|seat| seat.state == SeatState::Offered) {
                self.send(
                    from,
                    Notice::Failed {
                        seat: id,
                        why: "the process has unsubscribed".to_owned(),
                        is_error: false,
                    },
                );
            }
            self.remove_seat(id);
        }
    }
}
