//! Subscribers of other processes that hold back this process's publishers and do not move: [`StallWatch`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use blockcast_blocks::Sequence;

use super::{Node, Session};
use crate::peers::protocol::{Request, SeatId};

/// Number of looks within the time that a subscriber may take.
const LOOKS: u32 = 4;

/// The shortest and the longest time between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A seat that holds back its publisher.
type Seat = (Session, SeatId);

/// The subscribing processes that hold publishers back, and since when they have not moved.
#[derive(Debug, Default)]
pub(super) struct StallWatch {
    /// How long a subscriber may take. `None` if there is no limit.
    patience: Option<Duration>,
    seen: BTreeMap<Seat, (Sequence, Instant)>,
    next_look: Option<Instant>,
}

impl StallWatch {
    /// Records the seats that hold publishers back `now`, each with the message that it has not passed.
    /// Returns those that have not moved for the whole time, and each of them again after the same time.
    fn observe(&mut self, now: Instant, holding: &BTreeMap<Seat, Sequence>) -> Vec<Seat> {
        let Some(patience) = self.patience else { return Vec::new() };
        self.seen.retain(|seat, (at, _)| holding.get(seat) == Some(at));
        let mut stalled = Vec::new();
        for (&seat, &at) in holding {
            let (_, since) = self.seen.entry(seat).or_insert((at, now));
            if now.saturating_duration_since(*since) >= patience {
                *since = now;
                stalled.push(seat);
            }
        }
        stalled
    }
}

impl Node {
    /// Follows the terms of a process that takes part in a channel of this one.
    pub(super) fn watch_stalls(&mut self, patience: Option<Duration>) {
        self.stalls.patience = patience;
        if patience.is_some() && self.stalls.next_look.is_none() {
            self.stalls.next_look = Some(Instant::now());
        }
    }

    /// When to call [`tick`](Self::tick) next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.stalls.next_look
    }

    /// Reports subscribers of other processes that hold publishers back for too long.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.stalls.next_look.is_none_or(|look| look > now) {
            return;
        }
        let is_shared = self.published.values().any(|published| !published.annexes.is_empty());
        self.stalls.next_look = self
            .stalls
            .patience
            .filter(|_| is_shared && self.is_connected)
            .map(|patience| now + (patience / LOOKS).clamp(PAUSES.0, PAUSES.1));
        let mut holding = BTreeMap::new();
        for published in self.published.values() {
            let Some(channel) = published.channel.upgrade() else { continue };
            for (annex, sequence) in channel.held_back_by() {
                let seat = published.annexes.iter().find(|(_, attached)| attached.annex == annex);
                holding.extend(seat.map(|(&seat, _)| (seat, sequence)));
            }
        }
        for (session, seat) in self.stalls.observe(now, &holding) {
            // A former host's number means nothing to this one, which has given the process a new one.
            if session == self.session {
                self.send(Request::Stalled { seat });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn holding(seats: &[(u64, u64)]) -> BTreeMap<Seat, Sequence> {
        seats.iter().map(|&(seat, at)| ((1, SeatId(seat)), Sequence::new(at))).collect()
    }

    #[test]
    fn a_subscriber_that_moves_is_not_stalled_however_slowly_it_does() {
        let mut watch = StallWatch { patience: Some(10 * SECOND), ..StallWatch::default() };
        let start = Instant::now();
        for second in 0..100 {
            let seen = holding(&[(1, u64::from(second) / 9)]);
            assert_eq!(watch.observe(start + second * SECOND, &seen), [], "second {second}");
        }
    }

    #[test]
    fn one_that_does_not_move_is_reported_once_each_time_it_had() {
        let mut watch = StallWatch { patience: Some(10 * SECOND), ..StallWatch::default() };
        let start = Instant::now();
        for second in 0..=35 {
            let stalled = watch.observe(start + second * SECOND, &holding(&[(1, 7), (2, second.into())]));
            let expected = if second > 0 && second % 10 == 0 { vec![(1, SeatId(1))] } else { vec![] };
            assert_eq!(stalled, expected, "second {second}");
        }
    }

    #[test]
    fn one_that_no_longer_holds_its_publisher_back_starts_anew() {
        let mut watch = StallWatch { patience: Some(10 * SECOND), ..StallWatch::default() };
        let start = Instant::now();
        assert_eq!(watch.observe(start, &holding(&[(1, 7)])), []);
        assert_eq!(watch.observe(start + 9 * SECOND, &holding(&[])), []);
        assert_eq!(watch.observe(start + 10 * SECOND, &holding(&[(1, 7)])), []);
        assert_eq!(watch.observe(start + 20 * SECOND, &holding(&[(1, 7)])), [(1, SeatId(1))]);
    }

    #[test]
    fn nobody_is_stalled_by_default() {
        let mut watch = StallWatch::default();
        let start = Instant::now();
        for second in 0..100 {
            assert_eq!(watch.observe(start + 1000 * second * SECOND, &holding(&[(1, 7)])), []);
        }
    }
}
