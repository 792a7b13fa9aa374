//! [`Latest`]: a topic as a single value.

use blockcast_blocks::{Payload, Timestamp};

use crate::message::Sample;
use crate::subscriber::{RecvError, Subscriber};

/// The latest value of a topic, kept in place in its block.
///
/// Open the subscriber with [`SubscriberOptions::latest`](crate::SubscriberOptions::latest), and the
/// publisher with a history of at least 1 (`PublisherOptions::latest`), so that a value published before is
/// available immediately.
///
/// # Several publishers
/// The latest value is the one published last, according to the messages' [time](Sample::time): a message
/// with an earlier time never replaces the value. If the times are equal, as within a tick of the coarse
/// clock, or if a publisher does not stamp its messages, the message received last wins. That is the message
/// of the publisher that joined last if the other one had ended before, otherwise that of any publisher.
#[derive(Debug)]
pub struct Latest<P: Payload> {
    subscriber: Subscriber<P>,
    current: Option<Sample<P>>,
    /// Whether `current` was not returned yet.
    unseen: bool,
    /// An error that followed a value, to be returned after the value.
    error: Option<RecvError>,
}

impl<P: Payload> Latest<P> {
    /// Follows the latest value that `subscriber` receives.
    #[must_use]
    pub fn new(subscriber: Subscriber<P>) -> Self {
        Self { subscriber, current: None, unseen: false, error: None }
    }

    /// Returns the latest value, or `None` if there was none yet. It is at least as new as the newest one at
    /// the time of the call. Skips older values. Never waits, even if publishers continue to publish.
    ///
    /// # Errors
    /// [`RecvError::Invalid`] for a message that is not a value of the topic's layout. The previous value
    /// stays.
    pub fn get(&mut self) -> Result<Option<&Sample<P>>, RecvError> {
        self.catch_up()?;
        self.unseen = false;
        Ok(self.current.as_ref())
    }

    /// Receives the messages that exist at the time of the call.
    fn catch_up(&mut self) -> Result<(), RecvError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        // The number is bounded: publishers that never pause must not keep this loop running forever.
        for _ in 0..self.subscriber.backlog() {
            let mut received = self.subscriber.try_recv();
            if self.make_room(&received) {
                received = self.subscriber.try_recv();
            }
            match received {
                Ok(sample) => self.put(sample),
                Err(RecvError::Lost(_)) => {}
                Err(RecvError::Empty | RecvError::Ended) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Drops the value and returns `true` if it prevents receiving, which happens if the publisher has fewer
    /// than four blocks beyond its history.
    fn make_room(&mut self, received: &Result<Sample<P>, RecvError>) -> bool {
        let dropped =
            matches!(received, Err(RecvError::TooManySamples { .. })) && self.current.take().is_some();
        self.unseen &= !dropped;
        dropped
    }

    /// Replaces the value, unless it is later than `sample`.
    fn put(&mut self, sample: Sample<P>) {
        let is_later = |current: &Sample<P>| {
            // Messages without a timestamp replace every value.
            sample.time() != Timestamp::NONE && sample.time() < current.time()
        };
        if !self.current.as_ref().is_some_and(is_later) {
            self.current = Some(sample);
            self.unseen = true;
        }
    }

    /// Waits until a message was published after the last returned value, and returns the latest value.
    /// Returns the same value again if the new message has an earlier time. If an error follows a value that
    /// was not returned yet, the next call returns the error.
    ///
    /// # Errors
    /// - [`RecvError::Ended`] if no newer value can come.
    /// - [`RecvError::Invalid`] for a message that is not a value of the topic's layout.
    pub async fn changed(&mut self) -> Result<&Sample<P>, RecvError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while !self.unseen {
            let received = self.subscriber.recv().await;
            if self.make_room(&received) {
                continue;
            }
            match received {
                Ok(sample) => {
                    self.put(sample);
                    break;
                }
                Err(RecvError::Lost(_) | RecvError::Empty) => {}
                Err(error) => return Err(error),
            }
        }
        match self.catch_up() {
            Err(error) if self.unseen => self.error = Some(error),
            caught_up => caught_up?,
        }
        self.unseen = false;
        self.current.as_ref().ok_or(RecvError::Ended)
    }
}
