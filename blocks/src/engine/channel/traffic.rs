//! [`Traffic`]: counts the messages of a channel's subscribers in this process, even after they have left.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Channel;
use crate::engine::segment::words::Cursor;
use crate::primitive::Ordering;

/// Counters of received messages. They do not wrap in practice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages received.
    pub received: u64,
    /// Bytes of these messages.
    pub bytes: u64,
    /// Messages lost by the subscribers' overflow policies, or before they reached a relay.
    pub lost: u64,
}

/// Adds up the counters of subscribers of any number of channels that have left.
#[derive(Debug, Default)]
pub struct TrafficTotals {
    received: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
}

impl Traffic {
    /// The sum of two.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            received: self.received.wrapping_add(other.received),
            bytes: self.bytes.wrapping_add(other.bytes),
            lost: self.lost.wrapping_add(other.lost),
        }
    }

    /// Returns the counters of a subscriber that has received everything before `next`, except for its
    /// losses.
    fn of(line: &Cursor, next: u64) -> Self {
        let (start, lost) = (line.joined_at().unwrap_or(next), line.lost_messages());
        let received = next.saturating_sub(start.saturating_add(lost));
        let lost = lost.saturating_add(line.missing.load(Ordering::Relaxed));
        Self { received, bytes: line.bytes.load(Ordering::Relaxed), lost }
    }
}

impl TrafficTotals {
    /// Returns the sum of the subscribers that have left.
    #[must_use]
    pub fn get(&self) -> Traffic {
        // Ordering: Relaxed here and below; counts that guard nothing.
        let load = |count: &AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
        Traffic { received: load(&self.received), bytes: load(&self.bytes), lost: load(&self.lost) }
    }

    fn add(&self, traffic: Traffic) {
        let add = |to: &AtomicU64, count| to.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        add(&self.received, traffic.received);
        add(&self.bytes, traffic.bytes);
        add(&self.lost, traffic.lost);
    }
}

impl Channel {
    /// Adds the counters of each subscriber of this process to `totals` when it leaves. Does nothing if the
    /// channel has others already.
    pub fn add_traffic_to(&self, totals: &Arc<TrafficTotals>) {
        let _ = self.totals.set(Arc::clone(totals));
    }

    /// Returns what the current subscribers of this process have received and released. Only loads.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        if self.is_inherited() {
            return Traffic::default();
        }
        let joined = self.control().side().used_cursors().iter().filter(|line| line.joined_at().is_some());
        joined.fold(Traffic::default(), |sum, line| {
            // One that leaves meanwhile has none.
            let low = line.low.load(Ordering::Relaxed);
            if low == crate::engine::segment::words::UNUSED { sum } else { sum.and(Traffic::of(line, low)) }
        })
    }

    /// Counts a subscriber that is about to leave, and has received everything before `next`.
    pub(crate) fn count_leaving(&self, cursor: u32, next: u64) {
        if let (Some(totals), Some(line)) =
            (self.totals.get(), self.control().side().used_cursors().get(cursor as usize))
        {
            totals.add(Traffic::of(line, next));
        }
    }
}
