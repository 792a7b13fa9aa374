//! One row of the result.

use serde::Serialize;

/// What one candidate needed for one kind of work.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// What was done, such as `fan-out`.
    pub bench: &'static str,
    /// Bytes of a message.
    pub payload: usize,
    /// What a message was, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<&'static str>,
    /// Subscribers.
    pub subscribers: usize,
    /// How threads waited, where there were two; what was read, where values were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// Who.
    pub candidate: String,
    /// Nanoseconds of the fastest slice, per message published (ping-pong: one way).
    pub ns_min: f64,
    /// Nanoseconds of the middle slice.
    pub ns_median: f64,
    /// Distance between the quartiles of the slices, relative to the median.
    pub noise: f64,
    /// Whether the minimum is what counts (one thread) or the median (two threads, whose times are bimodal on
    /// virtual machines).
    pub statistic: Statistic,
    /// How many times the nanoseconds of Blockcast, by that statistic.
    pub ratio: f64,
}

/// Which figure of several slices counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// The fastest.
    Min,
    /// The middle one.
    Median,
}

impl Record {
    /// The nanoseconds that count.
    #[must_use]
    pub fn nanoseconds(&self) -> f64 {
        match self.statistic {
            Statistic::Min => self.ns_min,
            Statistic::Median => self.ns_median,
        }
    }
}
