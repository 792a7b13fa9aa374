//! [`Farewells`]: the ends of publishers, repeated for a while.
//!
//! An end that is lost is not followed by anything that would show the loss. So a bridge sends it again, in
//! case zenoh did not know of a subscriber at first, or the link was cut. Other bridges ignore repetitions.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blockcast_bridge_core::Attachment;
use zenoh::bytes::{Encoding, ZBytes};
use zenoh::qos::CongestionControl;
use zenoh::sample::Locality;
use zenoh::{Session, Wait};

/// Between the end of a publisher and its first repetition. Later pauses are twice as long each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Ends that are repeated at a time. The oldest make room for others.
const MOST: usize = 4096;

/// Ends that were sent not long ago.
#[derive(Debug, Default)]
pub(crate) struct Farewells(Mutex<VecDeque<Farewell>>);

#[derive(Debug)]
struct Farewell {
    key: String,
    encoding: Encoding,
    end: Attachment,
    sent: Instant,
    pause: Duration,
    due: Instant,
}

impl Farewells {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Farewell>> {
        // Calls of the standard library change it, so it is consistent even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats an end that was just sent.
    pub(crate) fn add(&self, key: &str, encoding: &Encoding, end: Attachment) {
        let mut farewells = self.lock();
        if farewells.len() >= MOST {
            farewells.pop_front();
        }
        let sent = Instant::now();
        farewells.push_back(Farewell {
            key: key.to_owned(),
            encoding: encoding.clone(),
            end,
            sent,
            pause: FIRST_PAUSE,
            due: sent + FIRST_PAUSE,
        });
    }

    /// Sends the ends that are due, and forgets those that were first sent longer ago than `linger`.
    pub(crate) fn repeat(&self, session: &Session, linger: Duration) {
        let now = Instant::now();
        let mut farewells = self.lock();
        farewells.retain(|farewell| now.duration_since(farewell.sent) < linger);
        for farewell in farewells.iter_mut().filter(|farewell| farewell.due <= now) {
            farewell.pause = (2 * farewell.pause).min(LONGEST_PAUSE);
            farewell.due = now + farewell.pause;
            // Does not wait: there may be another repetition.
            let put = session
                .put(&farewell.key, ZBytes::new())
                .encoding(farewell.encoding.clone())
                .attachment(farewell.end.encode())
                .congestion_control(CongestionControl::Drop)
                .allowed_destination(Locality::Remote)
                .wait();
            if let Err(error) = put {
                tracing::debug!(%error, "the end of a publisher was not repeated");
            }
        }
    }
}
