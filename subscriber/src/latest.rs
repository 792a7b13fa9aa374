//! [`Latest`]: a topic as a value cell.

use blockcast_blocks::{Payload, Timestamp};

use crate::message::Sample;
use crate::subscriber::{RecvError, Subscriber};

/// The latest value of a topic, kept in place in its block.
///
/// Give it a subscriber that was opened with [`SubscriberOptions::latest`](crate::SubscriberOptions::latest),
/// and the publisher a history of at least 1 (`PublisherOptions::latest`), so that a value that was published
/// before is there at once.
///
/// # Several publishers
/// The latest value is the one published last, by the messages' [time](Sample::time): a value never gives way to one with
/// an earlier time. Where that does not decide (the times are equal, as those of one tick of the coarse clock are, or a
/// publisher does not stamp), it is the one received last: that of the publisher that joined last if the other one had ended
/// by then, otherwise any of them.
#[derive(Debug)]
pub struct Latest<P: Payload> {
    subscriber: Subscriber<P>,
    current: Option<Sample<P>>,
    /// Nobody was told of `current` yet.
    unseen: bool,
    /// An error that was found behind a value that had to be told first.
    error: Option<RecvError>,
}

impl<P: Payload> Latest<P> {
    /// The latest value of what `subscriber` receives.
    #[must_use]
    pub fn new(subscriber: Subscriber<P>) -> Self {
        Self { subscriber, current: None, unseen: false, error: None }
    }

    /// The latest value, or `None` while there was none: at least as new as the newest one when this was called. Never
    /// waits, whatever the publishers do meanwhile; values in between are skipped, which is no loss here.
    ///
    /// # Errors
    /// [`RecvError::Invalid`] for a value that is not of the topic's layout; the previous one stays.
    pub fn get(&mut self) -> Result<Option<&Sample<P>>, RecvError> {
        self.catch_up()?;
        self.unseen = false;
        Ok(self.current.as_ref())
    }

    /// Receives what is there.
    fn catch_up(&mut self) -> Result<(), RecvError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        // Not until nothing is there: publishers that never pause would keep us for ever.
        for _ in 0..self.subscriber.backlog() {
            let mut received = self.subscriber.try_recv();
            if self.is_in_the_way(&received) {
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

    /// Lets go of the value if nothing is received because of it: the publisher has fewer than four blocks beyond its history.
    fn is_in_the_way(&mut self, received: &Result<Sample<P>, RecvError>) -> bool {
        let in_the_way =
            matches!(received, Err(RecvError::TooManySamples { .. })) && self.current.take().is_some();
        self.unseen &= !in_the_way;
        in_the_way
    }

    /// Keeps a value unless a later one is there.
    fn put(&mut self, sample: Sample<P>) {
        let later = |current: &Sample<P>| {
            // A publisher that does not stamp knows no time.
            sample.time() != Timestamp::NONE && sample.time() < current.time()
        };
        if !self.current.as_ref().is_some_and(later) {
            self.current = Some(sample);
            self.unseen = true;
        }
    }

    /// Waits until another value was published since the one seen last, and returns the latest. That is the same one again if
    /// the other is older. An error behind a value that was not seen yet is returned by the next call.
    ///
    /// # Errors
    /// [`RecvError::Ended`] when no newer value can come, [`RecvError::Invalid`].
    pub async fn changed(&mut self) -> Result<&Sample<P>, RecvError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while !self.unseen {
            let received = self.subscriber.recv().await;
            if self.is_in_the_way(&received) {
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
