//! [`Receiver`]: a subscriber that checks all messages that it receives.

use std::sync::Arc;
use std::task::{Context, Waker};

use blockcast_blocks::{Channel, Overflow, RawSample, Reader, ReceiveError};

use crate::kills::join;
use crate::messages;

/// A subscriber, with its counts of received and lost messages.
#[derive(Default)]
pub struct Receiver {
    pub reader: Option<Reader>,
    /// The sequence to receive next.
    next: u64,
    pub received: u64,
    pub lost: u64,
    pub samples: Vec<RawSample>,
}

impl Receiver {
    pub fn join(&mut self, channel: &Arc<Channel>, pace: Overflow) {
        let reader = join(channel, pace);
        self.next = reader.next_sequence().get();
        self.reader = Some(reader);
    }

    fn reader(&mut self) -> &mut Reader {
        self.reader.as_mut().expect("it has joined")
    }

    /// Notes how many messages were received or lost. Returns `false` if there is none.
    fn note(&mut self, received: Result<u64, ReceiveError>) -> bool {
        match received {
            Ok(count) => (self.received, self.next) = (self.received + count, self.next + count),
            Err(ReceiveError::Lost(count)) => (self.lost, self.next) = (self.lost + count, self.next + count),
            Err(ReceiveError::Empty | ReceiveError::Ended) => return false,
            Err(ReceiveError::TooManySamples { .. }) => self.drop_samples(),
            Err(other) => panic!("{other}"),
        }
        true
    }

    pub fn receive(&mut self) -> bool {
        let next = self.next;
        let received = self.reader().receive().map(|message| messages::check(message.bytes(), next));
        self.note(received.map(|()| 1))
    }

    pub fn receive_owned(&mut self) -> bool {
        let next = self.next;
        let received = self.reader().receive_owned().map(|sample| {
            messages::check(sample.bytes(), next);
            self.samples.push(sample);
        });
        self.note(received.map(|()| 1))
    }

    pub fn receive_batch(&mut self) -> bool {
        let next = self.next;
        let received = self.reader().receive_batch(4).map(|batch| {
            for ((_, bytes), sequence) in batch.iter().zip(next..) {
                messages::check(bytes, sequence);
            }
            batch.iter().count() as u64
        });
        self.note(received)
    }

    /// Receives until it has lost messages or there are none.
    pub fn receive_until_lost(&mut self) {
        let lost = self.lost;
        while self.lost == lost && self.receive() {}
    }

    pub fn receive_all(&mut self) {
        while self.receive() {}
    }

    /// Takes the steps before sleeping.
    pub fn wait(&mut self) {
        let _ = self.reader().poll_ready(&mut Context::from_waker(Waker::noop()));
    }

    /// Drops all samples, which still have their bytes.
    pub fn drop_samples(&mut self) {
        for sample in self.samples.drain(..) {
            messages::check(sample.bytes(), messages::sequence_of(sample.bytes()));
        }
    }
}
