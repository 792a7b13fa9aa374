//! [`Latencies`]: the distribution of a candidate's latencies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is recorded exactly, in nanoseconds: one minute.
const LONGEST: u64 = 60_000_000_000;

/// The latencies of one way, half of each round trip, in nanoseconds with three digits. Clones share them.
#[derive(Clone, Debug)]
pub struct Latencies(Arc<Mutex<Histogram<u64>>>);

/// What a record says of latencies, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the messages take at most this long.
    pub p50: u64,
    /// 99 of 100. `None` if there are fewer messages than that.
    pub p99: Option<u64>,
    /// 999 of 1,000. `None` if there are fewer messages than that.
    pub p99_9: Option<u64>,
    /// All of them.
    pub max: u64,
    /// Number of measured messages.
    pub messages: u64,
    /// Latencies by the share of messages that take longer, for charts: from all to one in 100,000.
    #[serde(default)]
    pub tail: Vec<(f64, u64)>,
}

impl Latencies {
    /// No latencies.
    ///
    /// # Panics
    /// Never: the bounds are those of a histogram.
    #[must_use]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are valid");
        Self(Arc::new(Mutex::new(histogram)))
    }

    /// Adds messages, given the nanoseconds of their round trips.
    pub fn record(&self, trips: &[u64]) {
        let mut histogram = self.lock();
        trips.iter().for_each(|trip| histogram.saturating_record((trip / 2).max(1)));
    }

    /// Forgets all messages.
    pub fn reset(&self) {
        self.lock().reset();
    }

    /// Summarizes them.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let histogram = self.lock();
        let at = |quantile| histogram.value_at_quantile(quantile);
        Percentiles {
            p50: at(0.5),
            p99: (histogram.len() >= 100).then(|| at(0.99)),
            p99_9: (histogram.len() >= 1000).then(|| at(0.999)),
            max: histogram.max(),
            messages: histogram.len(),
            tail: (0..=25)
                .map(|step| 10_f64.powf(-f64::from(step) / 5.0))
                .map(|share| (share, at(1.0 - share)))
                .collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        // A panic ends the comparison.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_half_the_round_trips() {
        let latencies = Latencies::new();
        latencies.record(&[7, 1 << 50]);
        latencies.reset();
        // 1 to 1,000 nanoseconds.
        latencies.record(&(1..=1000).map(|one_way| 2 * one_way).collect::<Vec<_>>());
        let found = latencies.percentiles();
        assert_eq!((found.p50, found.p99, found.p99_9, found.max), (500, Some(990), Some(999), 1000));
        assert_eq!(found.messages, 1000);
        latencies.reset();
        latencies.record(&[8; 999]);
        assert_eq!(latencies.percentiles().p99_9, None, "too few");
        assert_eq!(latencies.percentiles().p99, Some(4));
        assert_eq!(found.tail.first(), Some(&(1.0, 1)));
        assert!(found.tail.is_sorted_by_key(|&(_, latency)| latency));
    }
}
