//! One row of the results.

use serde::Serialize;

use crate::latencies::Percentiles;

/// The time of one candidate for one kind of work.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Kind of work, such as `fan-out`.
    pub bench: &'static str,
    /// Bytes of a message.
    pub payload: usize,
    /// Value of a message, if that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<&'static str>,
    /// Number of subscribers.
    pub subscribers: usize,
    /// Number of subscribing processes, if the ends are processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<usize>,
    /// For two threads or processes, how they waited. For values, what was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// Name of the candidate.
    pub candidate: String,
    /// Nanoseconds of the fastest slice, per published message (ping-pong: one way).
    pub ns_min: f64,
    /// Nanoseconds of the median slice.
    pub ns_median: f64,
    /// Interquartile range of the slices, relative to the median.
    pub noise: f64,
    /// Whether the minimum counts (one thread) or the median (two threads, whose times are bimodal on virtual
    /// machines).
    pub statistic: Statistic,
    /// Ratio to Blockcast's nanoseconds, by that statistic.
    pub ratio: f64,
    /// For throughput: messages per second, by that statistic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<f64>,
    /// For throughput of messages whose bytes are all written: bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// For latencies: their percentiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Percentiles>,
}

/// Which of the slices counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// The fastest slice.
    Min,
    /// The median slice.
    Median,
}

impl Record {
    /// Returns the nanoseconds that count.
    #[must_use]
    pub fn nanoseconds(&self) -> f64 {
        match self.statistic {
            Statistic::Min => self.ns_min,
            Statistic::Median => self.ns_median,
        }
    }
}
