//! [`Meeting`]: how the ends of a candidate find each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::work::Shape;

/// The work of the ends in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// One end publishes, the other receives at the same time.
    Throughput,
    /// Each message is answered before the next is sent.
    PingPong,
    /// Like `PingPong`, and the time of each round trip is taken.
    Latency,
    /// Each message is answered, but it is sent only once the receiving end sleeps.
    WakeUp,
    /// The publisher and the subscribing ends take turns, so one works at a time.
    Turns,
}

/// The end that publishes, or sends the first message.
pub const PUBLISHER: usize = 0;

/// The topic on which the publisher publishes.
pub const THERE: usize = 0;
/// The topic of answers.
pub const BACK: usize = 1;

/// A candidate's ends and their work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meeting {
    /// Name that no other meeting on this machine has.
    pub name: String,
    /// Folder for sockets and the like. It is removed once all ends have met.
    pub folder: PathBuf,
    /// The file of the [`Board`](super::board::Board).
    pub board: PathBuf,
    /// Size and receivers of the messages. `subscribers` counts those of all ends together.
    pub shape: Shape,
    /// The work of the ends.
    pub task: Task,
    /// Number of ends that subscribe.
    pub subscribing: usize,
}

impl Meeting {
    /// Number of ends.
    #[must_use]
    pub fn ends(&self) -> usize {
        1 + self.subscribing
    }

    /// Number of subscribers of each subscribing end.
    #[must_use]
    pub fn subscribers_each(&self) -> usize {
        self.shape.subscribers / self.subscribing
    }

    /// The topic that an end publishes to, if it publishes.
    #[must_use]
    pub fn publishes(&self, end: usize) -> Option<usize> {
        match (end, self.task) {
            (PUBLISHER, _) => Some(THERE),
            (_, Task::PingPong | Task::Latency | Task::WakeUp) => Some(BACK),
            _ => None,
        }
    }

    /// The topic that an end subscribes to, if it subscribes.
    #[must_use]
    pub fn subscribes(&self, end: usize) -> Option<usize> {
        match (end, self.task) {
            (PUBLISHER, Task::PingPong | Task::Latency | Task::WakeUp) => Some(BACK),
            (PUBLISHER, _) => None,
            _ => Some(THERE),
        }
    }

    /// Number of messages that an end receives if each publisher sends `messages`.
    #[must_use]
    pub fn expects(&self, end: usize, messages: u64) -> u64 {
        match self.subscribes(end) {
            None => 0,
            Some(_) if end == PUBLISHER => messages,
            Some(_) => messages * self.subscribers_each() as u64,
        }
    }

    /// Returns a name for a topic that no other meeting uses.
    #[must_use]
    pub fn topic(&self, topic: usize) -> String {
        format!("{}/{topic}", self.name)
    }
}
