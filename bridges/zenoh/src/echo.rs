//! [`Echo`]: how long a message to another bridge and its answer take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use blockcast_bridge_core::{Origin, echo};
use zenoh::bytes::ZBytes;
use zenoh::query::{ConsolidationMode, Query, QueryTarget, Queryable};
use zenoh::sample::Locality;
use zenoh::{Session, Wait};

use crate::error::BridgeError;
use crate::stats::Counters;

/// How long to wait for answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers other bridges, and asks them.
pub(crate) struct Echo {
    _answers: Queryable<()>,
    interval: Duration,
    asked: Option<Instant>,
}

impl Echo {
    /// Answers from now on.
    pub(crate) fn new(session: &Session, origin: Origin, interval: Duration) -> Result<Self, BridgeError> {
        let key = echo::key_of(origin);
        let answered = key.clone();
        let answer = move |query: Query| {
            if let Err(error) = query.reply(answered.as_str(), ZBytes::new()).wait() {
                tracing::debug!(%error, "another bridge was not answered");
            }
        };
        let answers = session.declare_queryable(key).callback(answer).allowed_origin(Locality::Remote).wait();
        let answers = answers.map_err(|error| BridgeError::zenoh("answer other bridges", error))?;
        Ok(Self { _answers: answers, interval, asked: None })
    }

    /// Asks all other bridges, if it is time to.
    pub(crate) fn ask(&mut self, session: &Session, counters: &Arc<Counters>) {
        // Ordering: Relaxed; numbers that guard nothing.
        if counters.peers.load(Ordering::Relaxed) == 0 {
            counters.round_trip.store(0, Ordering::Relaxed);
            self.asked = None;
            return;
        }
        if self.asked.is_some_and(|asked| asked.elapsed() < self.interval) {
            return;
        }
        let asked = Instant::now();
        self.asked = Some(asked);
        let (counters, longest) = (Arc::clone(counters), AtomicU64::new(0));
        let hear = move |reply: zenoh::query::Reply| {
            if reply.result().is_ok_and(|reply| echo::is_key(reply.key_expr().as_str())) {
                let took = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
                let longest = longest.fetch_max(took, Ordering::Relaxed).max(took);
                counters.round_trip.store(longest, Ordering::Relaxed);
            }
        };
        let asking = session
            .get(echo::ALL)
            .callback(hear)
            .target(QueryTarget::All)
            .consolidation(ConsolidationMode::None)
            .allowed_destination(Locality::Remote)
            .timeout(PATIENCE)
            .wait();
        if let Err(error) = asking {
            tracing::debug!(%error, "other bridges were not asked");
        }
    }
}
