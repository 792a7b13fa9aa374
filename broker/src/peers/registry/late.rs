//! Processes that do not answer in time, such as those that are stopped: nobody waits for them twice.

use std::time::Instant;

use blockcast_blocks::shield::event;

use super::{Peer, Registry, SeatState};
use crate::peers::protocol::{Notice, PeerId, SeatId};

impl<F: Clone> Registry<F> {
    /// Whether others wait until this process has answered.
    pub(super) fn waits_for(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| !peer.is_late)
    }

    /// Call this when a process has sent something.
    pub(super) fn has_answered(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && std::mem::take(&mut peer.is_late)
        {
            event(|| tracing::info!(process = peer.label, "a process answers again"));
            self.offer_held(id);
        }
    }

    /// Marks the process that should have answered for a seat as late.
    pub(super) fn is_late(&mut self, id: SeatId) {
        let Some(seat) = self.seats.get(&id) else { return };
        let attaches = seat.state == SeatState::Attaching;
        let laggard = if attaches { seat.channel.0 } else { seat.subscriber };
        // The host's own process answers at once, unless it waits for others itself.
        let is_other = |peer: &&mut Peer<F>| peer.grants.is_some();
        let Some(peer) = self.peers.get_mut(&laggard).filter(is_other) else { return };
        if !std::mem::replace(&mut peer.is_late, true) {
            event(|| {
                tracing::warn!(
                    process = peer.label,
                    "a process does not answer, and the others go on without it"
                );
            });
            self.stop_counting(laggard);
        }
    }

    /// Lets subscribing processes continue that have waited long enough for the process of a publisher. They
    /// join the publisher once its process answers.
    pub(super) fn stop_waiting_to_attach(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.attaching.first()
            && deadline <= now
        {
            self.attaching.pop_first();
            self.is_late(id);
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            seat.deadline = None;
            let subscriber = seat.subscriber;
            self.send(subscriber, Notice::Late { seat: id });
        }
    }
}
