//! [`Seldom`]: warnings that may come often.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two warnings that pass.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets a warning pass: the first one, and then one every few seconds, which says how many there were.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    passed: Option<Instant>,
    /// How many did not pass since then.
    held: u64,
}

impl Seldom {
    /// Warns about a topic. What does not pass is only for who debugs.
    pub(crate) fn warn(&mut self, topic: &str, what: &'static str, error: &dyn Display) {
        match self.pass(Instant::now()) {
            Some(1) => tracing::warn!(topic, %error, "{what}"),
            Some(times) => tracing::warn!(topic, %error, times, "{what}"),
            None => tracing::debug!(topic, %error, "{what}"),
        }
    }

    /// The number of warnings, with this one, since the last one that has passed. `None` if it does not pass.
    fn pass(&mut self, now: Instant) -> Option<u64> {
        self.held += 1;
        if self.passed.is_some_and(|passed| now.duration_since(passed) < PAUSE) {
            return None;
        }
        self.passed = Some(now);
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_warning_passes_and_then_one_in_each_pause() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        let mut pass = |seconds| seldom.pass(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 2, 9].map(&mut pass), [Some(1), None, None, None]);
        assert_eq!([10, 11, 100, 100, 111].map(&mut pass), [Some(4), None, Some(2), None, Some(2)]);
    }
}
