//! [`BridgeStats`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a bridge has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeStats {
    /// Messages that were given to zenoh.
    pub sent: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// Messages of local publishers that were lost here, before zenoh got them: it was slow.
    pub unsent: u64,
    /// Messages that were received and published here.
    pub received: u64,
    /// Bytes of these.
    pub received_bytes: u64,
    /// Messages that have not arrived, or that were dropped for lack of blocks.
    pub missing: u64,
    /// Messages that were refused: without a correct attachment or schema, with other bytes than were sent,
    /// too large, or not a value of the topic's layout. A batch that is refused as a whole counts once.
    pub refused: u64,
    /// Messages that have arrived more than once.
    pub repeated: u64,
    /// Bridges elsewhere that have participants of any topic.
    pub peers: u64,
    /// How long it took to reach another bridge and get an answer, at the last attempt: the longest of all
    /// that answered. `None` before the first answer, and while there are no peers.
    pub round_trip: Option<Duration>,
    /// Topics that are being sent.
    pub sending: u64,
    /// Topics that are being received.
    pub receiving: u64,
}

/// The counters behind it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) unsent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) missing: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) peers: AtomicU64,
    /// In nanoseconds. 0: unknown.
    pub(crate) round_trip: AtomicU64,
    pub(crate) sending: AtomicU64,
    pub(crate) receiving: AtomicU64,
}

/// Adds to a counter, which guards nothing.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn get(&self) -> BridgeStats {
        // Ordering: Relaxed; counts that guard nothing.
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BridgeStats {
            sent: load(&self.sent),
            sent_bytes: load(&self.sent_bytes),
            unsent: load(&self.unsent),
            received: load(&self.received),
            received_bytes: load(&self.received_bytes),
            missing: load(&self.missing),
            refused: load(&self.refused),
            repeated: load(&self.repeated),
            peers: load(&self.peers),
            round_trip: Some(Duration::from_nanos(load(&self.round_trip))).filter(|time| !time.is_zero()),
            sending: load(&self.sending),
            receiving: load(&self.receiving),
        }
    }
}
