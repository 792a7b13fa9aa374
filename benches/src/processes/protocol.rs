//! The messages between the comparing process and the ends, one line of JSON each.

use serde::{Deserialize, Serialize};

use crate::processes::meeting::Meeting;
use crate::work::Tally;

/// The first line that a process reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Name of the candidate.
    pub candidate: String,
    /// The ends that this process runs.
    pub ends: Vec<usize>,
    /// How to meet the other ends.
    pub meeting: Meeting,
}

/// All further lines that it reads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Open the publishers: every subscriber exists.
    Meet,
    /// Run this many messages, numbered on from the previous ones.
    Run {
        /// The number of messages.
        messages: u64,
    },
}

/// An end's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The end.
    pub end: usize,
    /// The measured times.
    pub times: Times,
    /// The received messages.
    pub tally: Tally,
}

/// The times measured by an end, in nanoseconds. Points in time are those of the system's monotonic clock,
/// which all processes share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Times {
    /// No time.
    None,
    /// When it began to publish.
    Started(u64),
    /// When it had received the last message.
    Ended(u64),
    /// The median time of one way.
    OneWay(f64),
    /// The time of each round trip.
    Trips(Vec<u64>),
    /// When it sent each message, and when it received each.
    Woken {
        /// When it sent each message.
        sent: Vec<u64>,
        /// When it received each message.
        received: Vec<u64>,
    },
    /// The time of all its turns.
    Spent(u64),
}
