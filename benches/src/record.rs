//! One row of the results.

use serde::{Deserialize, Deserializer, Serialize};

use crate::latencies::Percentiles;

/// The time of one candidate for one kind of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Kind of work, such as `fan-out`.
    pub bench: String,
    /// Bytes of a message.
    pub payload: usize,
    /// Value of a message, if that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Number of subscribers.
    pub subscribers: usize,
    /// Number of subscribing processes, if the ends are processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<usize>,
    /// For two threads or processes, how they waited. For values, what was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
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
    /// Ratio to Blockcast's nanoseconds, by that statistic. Not a number if Blockcast does not take part.
    #[serde(deserialize_with = "number_or_null")]
    pub ratio: f64,
    /// For throughput: messages per second, by that statistic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<f64>,
    /// For throughput of messages whose bytes are all written: bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// For latencies: their percentiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Percentiles>,
}

/// Which of the slices counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Reads a number, which JSON writes as null if it is not finite.
fn number_or_null<'d, D: Deserializer<'d>>(source: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(source)?.unwrap_or(f64::NAN))
}
