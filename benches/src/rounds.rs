//! Interleaves the candidates: each runs one slice per round.

use std::fmt;
use std::time::Duration;

use crate::latencies::Latencies;
use crate::peers::REFERENCE;
use crate::work::Tally;

/// Why a candidate has no time.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It lost messages, or delivered wrong ones.
    Lost {
        /// Name of the candidate.
        candidate: String,
        /// Messages published, for all subscribers together.
        expected: u64,
        /// The received messages.
        tally: Tally,
    },
    /// One of its processes failed.
    Process {
        /// Name of the candidate.
        candidate: String,
        /// How it ended, and what it wrote to standard error.
        reason: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { candidate, expected, tally } => {
                let Tally { messages, wrong, .. } = tally;
                write!(f, "{candidate} delivered {messages} of {expected} messages, {wrong} wrong")
            }
            Self::Process { candidate, reason } => write!(f, "{candidate}: {reason}"),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Whether it is the fault of a peer's process, which says nothing about the others.
    fn is_of_peer(&self) -> bool {
        matches!(self, Self::Process { candidate, .. } if !candidate.starts_with(REFERENCE))
    }
}

/// The work of a candidate: runs a number of messages and returns the nanoseconds per message.
pub type Work = Box<dyn FnMut(u64) -> Result<f64, Failure>>;

/// A candidate with its times so far.
pub struct Timed {
    /// Its name.
    pub candidate: String,
    /// Bytes of its messages, if they differ between candidates.
    pub bytes: Option<usize>,
    /// Its latencies, if each message is measured.
    pub latencies: Option<Latencies>,
    work: Work,
    /// Minimum number of messages per slice.
    least: u64,
    /// Number of messages per slice.
    batch: u64,
    samples: Vec<f64>,
    /// Why it takes no further part.
    failure: Option<Failure>,
}

/// A slice that takes this many times its expected duration causes a warning.
const TOO_LONG: f64 = 20.0;

impl Timed {
    /// Creates a candidate that has not been measured.
    pub fn new(candidate: impl Into<String>, work: Work) -> Self {
        Self {
            candidate: candidate.into(),
            bytes: None,
            latencies: None,
            work,
            least: 1,
            batch: 1,
            samples: Vec::new(),
            failure: None,
        }
    }

    /// Creates a candidate whose work adds to `latencies`.
    #[must_use]
    pub fn with_latencies(mut self, latencies: Latencies) -> Self {
        self.latencies = Some(latencies);
        self
    }

    /// Creates a candidate with its own message size.
    #[must_use]
    pub fn of_payloads(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Creates a candidate with a pool of `blocks` blocks. Each slice has at least that many messages, so
    /// that every block is used, and rare work (reclaiming, waking, a new batch) is shared by many messages.
    #[must_use]
    pub fn of_pool(mut self, blocks: usize) -> Self {
        self.least = blocks.max(1) as u64;
        self
    }

    /// Returns the number of messages per slice, if already known.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.batch
    }

    /// Runs `messages` messages and returns the nanoseconds per message.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run(&mut self, messages: u64) -> Result<f64, Failure> {
        (self.work)(messages)
    }

    /// Returns the time of the fastest slice.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Returns the time of the median slice.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the interquartile range, relative to the median.
    #[must_use]
    pub fn noise(&self) -> f64 {
        (self.quantile(0.75) - self.quantile(0.25)) / self.median()
    }

    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * part).round() as usize]
    }

    /// Does this, unless it has failed before. Keeps the failure of a peer's process.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.failure.is_some() {
            return Ok(());
        }
        match work(self) {
            Err(failure) if failure.is_of_peer() => {
                self.failure = Some(failure);
                Ok(())
            }
            other => other,
        }
    }

    /// Finds how many messages fill a slice, but at least the minimum.
    ///
    /// The first messages do not count, because they meet cold caches, unmapped pages and freshly started
    /// guests. Of two runs the faster counts, because the system may interrupt one.
    fn calibrate(&mut self, slice: Duration) -> Result<(), Failure> {
        let slice = slice.as_nanos() as f64;
        (self.work)(self.least)?;
        self.batch = self.least;
        let spent = loop {
            let mut run = || (self.work)(self.batch);
            let spent = run()?.min(run()?) * self.batch as f64;
            if spent >= slice * 0.4 {
                break spent;
            }
            self.batch = (self.batch as f64 * (slice / spent.max(1.0)).clamp(2.0, 16.0)) as u64;
        };
        let fitting = (self.batch as f64 * slice / spent).ceil() as u64;
        let takes = spent / self.batch as f64 * self.least as f64;
        if takes > TOO_LONG * slice {
            eprintln!(
                "{}: {} messages, as many as its pool has blocks, take {:.0} ms, and a slice should take {:.1} ms",
                self.candidate,
                self.least,
                takes / 1e6,
                slice / 1e6
            );
        }
        self.batch = fitting.max(self.least);
        Ok(())
    }
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed")
            .field("candidate", &self.candidate)
            .field("samples", &self.samples.len())
            .finish_non_exhaustive()
    }
}

/// Runs `rounds` rounds of slices. Calls `tick` after each round. Removes peers whose processes fail, and
/// returns why.
///
/// # Errors
/// [`Failure`] as soon as a candidate loses a message, or one of Blockcast's processes fails.
pub fn interleave(
    candidates: &mut Vec<Timed>,
    slice: Duration,
    rounds: usize,
    mut tick: impl FnMut(),
) -> Result<Vec<Failure>, Failure> {
    for candidate in candidates.iter_mut() {
        candidate.attempt(|candidate| candidate.calibrate(slice))?;
        candidate.latencies.iter().for_each(Latencies::reset);
    }
    for round in 0..rounds {
        // Start with a different one each time, so that no candidate always follows the same neighbour.
        let start = round % candidates.len().max(1);
        for index in 0..candidates.len() {
            let turn = (start + index) % candidates.len();
            candidates[turn].attempt(|candidate| {
                let time = (candidate.work)(candidate.batch)?;
                candidate.samples.push(time);
                Ok(())
            })?;
        }
        tick();
    }
    let failed = candidates.extract_if(.., |candidate| candidate.failure.is_some());
    Ok(failed.filter_map(|candidate| candidate.failure).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    const SLICE: Duration = Duration::from_millis(1);
    const POOL: usize = 64;

    /// A candidate whose messages take a fixed number of nanoseconds each, except for the first one.
    fn candidate(first: f64, others: f64) -> Timed {
        let mut cold = true;
        let work = move |messages: u64| {
            let extra = if std::mem::take(&mut cold) { first - others } else { 0.0 };
            Ok((extra + others * messages as f64) / messages as f64)
        };
        Timed::new("candidate", Box::new(work))
    }

    fn messages(candidate: Timed) -> u64 {
        let mut candidates = vec![candidate];
        assert!(interleave(&mut candidates, SLICE, 3, || ()).expect("nothing is lost").is_empty());
        let candidate = candidates.pop().expect("it has not failed");
        assert_eq!(candidate.samples.len(), 3);
        candidate.messages()
    }

    /// A candidate whose process fails in its first slice after calibrating, and counts its attempts.
    fn failing(name: &'static str, attempts: Rc<Cell<u32>>) -> Timed {
        let work = move |messages: u64| {
            attempts.set(attempts.get() + 1);
            match attempts.get() {
                1..=3 => Ok(1e6 / messages as f64),
                _ => Err(Failure::Process { candidate: name.to_owned(), reason: "no answer".to_owned() }),
            }
        };
        Timed::new(name, Box::new(work))
    }

    #[test]
    fn a_peer_whose_process_fails_is_left_out() {
        let attempts = Rc::new(Cell::new(0));
        let mut candidates = vec![
            failing("iceoryx2-ipc", Rc::clone(&attempts)),
            candidate(1e3, 1e3),
            failing("pipe", Rc::default()),
        ];
        let failures = interleave(&mut candidates, SLICE, 3, || ()).expect("nothing is lost");
        let failures: Vec<_> = failures.iter().map(Failure::to_string).collect();
        assert_eq!(failures, ["iceoryx2-ipc: no answer", "pipe: no answer"]);
        assert_eq!(attempts.get(), 4, "it is not asked again");
        let [left] = candidates.as_slice() else { panic!("one is left: {candidates:?}") };
        assert_eq!((&*left.candidate, left.samples.len()), ("candidate", 3));
    }

    #[test]
    fn a_failure_of_blockcast_ends_the_run() {
        let mut candidates = vec![candidate(1e3, 1e3), failing("blockcast-threads", Rc::default())];
        let failure = interleave(&mut candidates, SLICE, 3, || ()).expect_err("it fails");
        assert_eq!(failure.to_string(), "blockcast-threads: no answer");
    }

    #[test]
    fn a_slice_is_filled_whatever_the_first_message_costs() {
        for first in [1e3, 1e6, 1e9] {
            assert_eq!(messages(candidate(first, 1e3)), 1000, "{first} ns");
            assert_eq!(messages(candidate(first, 1e3).of_pool(POOL)), 1000, "{first} ns");
        }
    }

    #[test]
    fn a_slice_has_as_many_messages_as_the_pool_has_blocks_whatever_they_cost() {
        for (first, others) in [(1e9, 1e4), (1e5, 1e5), (1e9, 1e9)] {
            assert!(messages(candidate(first, others).of_pool(POOL)) >= POOL as u64, "{first}, {others} ns");
        }
        assert_eq!(messages(candidate(1e9, 1e7)), 1, "a candidate without a pool");
    }

    #[test]
    fn every_candidate_with_a_pool_of_every_group_has_slices_that_long() {
        // One very short slice of each, with the smallest messages.
        for group in crate::suite::groups(true) {
            // Two threads would need two processors to themselves. Their candidates are built like those of
            // one.
            if group.shape.payload > 64 || group.mode.is_some() || group.value.is_some() {
                continue;
            }
            // These run the program `blockcast-bench`, which this test is not.
            if group.processes.is_some() {
                continue;
            }
            let mut candidates = group.candidates(&crate::suite::Only(vec!["blockcast".to_owned()]));
            interleave(&mut candidates, Duration::from_nanos(1), 0, || ()).expect("nothing is lost");
            for candidate in
                candidates.iter().filter(|candidate| candidate.candidate.starts_with("blockcast"))
            {
                let messages = candidate.messages();
                assert!(messages >= group.shape.blocks as u64, "{}, {candidate:?}: {messages}", group.bench);
            }
        }
    }
}
