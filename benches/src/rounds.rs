//! Interleaving: every candidate runs a slice in each round, in turns.

use std::fmt;
use std::time::Duration;

use crate::work::Tally;

/// A candidate that lost messages, or delivered others than were sent.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Who.
    pub candidate: String,
    /// Published, for all subscribers together.
    pub expected: u64,
    /// What arrived.
    pub tally: Tally,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { candidate, expected, tally } = self;
        write!(f, "{candidate} delivered {} of {expected} messages, {} wrong", tally.messages, tally.wrong)
    }
}

impl std::error::Error for Lost {}

/// A candidate at work: runs that many messages and says how long one took, in nanoseconds.
pub type Work = Box<dyn FnMut(u64) -> Result<f64, Lost>>;

/// A candidate with the times that it has taken.
pub struct Timed {
    /// Its name.
    pub candidate: String,
    /// Bytes of its messages, if candidates differ in that.
    pub bytes: Option<usize>,
    work: Work,
    batch: u64,
    samples: Vec<f64>,
}

impl Timed {
    /// Nothing measured yet.
    pub fn new(candidate: impl Into<String>, work: Work) -> Self {
        Self { candidate: candidate.into(), bytes: None, work, batch: 64, samples: Vec::new() }
    }

    /// A candidate whose messages have a size of their own, and may each take long to build or read.
    #[must_use]
    pub fn of_payloads(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes);
        self.batch = 1;
        self
    }

    /// Runs that many messages and returns how long one took, in nanoseconds.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn run(&mut self, messages: u64) -> Result<f64, Lost> {
        (self.work)(messages)
    }

    /// The smallest time of a slice.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The time of the middle slice.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Distance between the quartiles, relative to the median.
    #[must_use]
    pub fn noise(&self) -> f64 {
        (self.quantile(0.75) - self.quantile(0.25)) / self.median()
    }

    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * part).round() as usize]
    }

    /// Finds how many messages fill a slice; this is the warm-up, too.
    fn calibrate(&mut self, slice: Duration) -> Result<(), Lost> {
        let slice = slice.as_nanos() as f64;
        loop {
            let spent = (self.work)(self.batch)? * self.batch as f64;
            if spent >= slice * 0.4 {
                let fitting = self.batch as f64 * slice / spent;
                self.batch = fitting.ceil().max(1.0) as u64;
                return Ok(());
            }
            self.batch = (self.batch as f64 * (slice / spent.max(1.0)).clamp(2.0, 16.0)) as u64;
        }
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

/// Runs `rounds` rounds of slices. `tick` is called after each round.
///
/// # Errors
/// [`Lost`] as soon as a candidate loses a message.
pub fn interleave(
    candidates: &mut [Timed],
    slice: Duration,
    rounds: usize,
    mut tick: impl FnMut(),
) -> Result<(), Lost> {
    for candidate in candidates.iter_mut() {
        candidate.calibrate(slice)?;
    }
    for round in 0..rounds {
        // A different one begins each time, so that nobody always follows the same neighbour.
        let start = round % candidates.len().max(1);
        for index in 0..candidates.len() {
            let turn = (start + index) % candidates.len();
            let candidate = &mut candidates[turn];
            let time = (candidate.work)(candidate.batch)?;
            candidate.samples.push(time);
        }
        tick();
    }
    Ok(())
}
