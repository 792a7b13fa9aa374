//! Decides whether and when a component is restarted: [`RestartPolicy`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::component::exit::ExitReason;

/// Which exits lead to a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// None.
    #[default]
    Never,
    /// All except a successful finish.
    OnFailure,
    /// All, including a successful finish.
    Always,
}

/// Whether, when and how often a component is restarted.
///
/// The pause before a restart grows with the number of restarts within the last [`period`](Self::period):
/// `initial`, `initial * factor`, and so on up to `max`. After a period without restarts, the pauses start
/// over. A component that was asked to stop is not restarted.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// Which exits lead to a restart.
    pub restart: Restart,
    /// Pause before the first restart.
    pub initial: Duration,
    /// Factor by which each pause grows. Less than 1 counts as 1.
    pub factor: f64,
    /// Longest pause.
    pub max: Duration,
    /// Number of restarts within a period after which the component is given up. `None` means never.
    pub limit: Option<u32>,
    /// How long a restart counts towards the pause and the limit.
    pub period: Duration,
}

impl RestartPolicy {
    /// Never restarts.
    #[must_use]
    pub fn never() -> Self {
        Self {
            restart: Restart::Never,
            initial: Duration::from_millis(100),
            factor: 2.0,
            max: Duration::from_secs(10),
            limit: Some(5),
            period: Duration::from_secs(60),
        }
    }

    /// Restarts unless the component has finished: after 100 ms, 200 ms and so on up to 10 s, up to five
    /// times a minute.
    #[must_use]
    pub fn on_failure() -> Self {
        Self { restart: Restart::OnFailure, ..Self::never() }
    }

    /// Like [`on_failure`](Self::on_failure), but also restarts after a successful finish.
    #[must_use]
    pub fn always() -> Self {
        Self { restart: Restart::Always, ..Self::never() }
    }
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self::never()
    }
}

/// The consequence of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Restart after the pause.
    After(Duration),
    /// Do not restart.
    Stop,
    /// Do not restart, because of the number of restarts.
    GiveUp,
}

/// The restarts of one component.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new() }
    }

    /// Decides whether to restart after an exit at `now`. Counts the restart if there is one.
    pub(crate) fn after(&mut self, reason: &ExitReason, now: Instant) -> Next {
        let wanted = match self.policy.restart {
            Restart::Never => false,
            Restart::OnFailure => !reason.is_success(),
            Restart::Always => true,
        };
        if !wanted || matches!(reason, ExitReason::Cancelled | ExitReason::Abandoned(_)) {
            return Next::Stop;
        }
        let over = |restart: &Instant| now.saturating_duration_since(*restart) >= self.policy.period;
        while self.recent.front().is_some_and(over) {
            self.recent.pop_front();
        }
        if self.policy.limit.is_some_and(|limit| self.recent.len() >= limit as usize) {
            return Next::GiveUp;
        }
        // With more restarts, the pause is the longest in any case.
        let earlier = i32::try_from(self.recent.len()).unwrap_or(i32::MAX).min(1000);
        let pause = self.policy.initial.as_secs_f64() * self.policy.factor.max(1.0).powi(earlier);
        let longest = self.policy.max.as_secs_f64();
        let pause = Duration::try_from_secs_f64(pause.min(longest)).unwrap_or(self.policy.max);
        self.recent.push_back(now);
        if self.recent.len() > 1000 {
            self.recent.pop_front();
        }
        Next::After(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> ExitReason {
        ExitReason::Failed("why".to_owned())
    }

    #[test]
    fn a_policy_decides_by_the_exit_reason() {
        let next = |policy, reason: &ExitReason| Restarts::new(policy).after(reason, Instant::now());
        let first = Next::After(Duration::from_millis(100));
        assert_eq!(next(RestartPolicy::never(), &failed()), Next::Stop);
        assert_eq!(next(RestartPolicy::on_failure(), &failed()), first);
        assert_eq!(next(RestartPolicy::on_failure(), &ExitReason::Finished), Next::Stop);
        assert_eq!(next(RestartPolicy::always(), &ExitReason::Finished), first);
        assert_eq!(
            next(RestartPolicy::always(), &ExitReason::Cancelled),
            Next::Stop,
            "a cancelled component stays ended"
        );
    }

    #[test]
    fn pauses_grow_to_the_longest_and_start_over_after_a_quiet_period() {
        let policy = RestartPolicy {
            factor: 3.0,
            max: Duration::from_millis(500),
            limit: Some(4),
            ..RestartPolicy::on_failure()
        };
        let mut restarts = Restarts::new(policy);
        let start = Instant::now();
        let mut after = |seconds| restarts.after(&failed(), start + Duration::from_secs(seconds));
        let ms = |millis| Next::After(Duration::from_millis(millis));
        assert_eq!([0, 1, 2, 3, 4].map(&mut after), [ms(100), ms(300), ms(500), ms(500), Next::GiveUp]);
        assert_eq!(after(200), ms(100), "a period later");
    }

    #[test]
    fn absurd_numbers_are_harmless() {
        let policy = RestartPolicy { factor: f64::NAN, limit: None, ..RestartPolicy::always() };
        let mut restarts = Restarts::new(policy);
        let now = Instant::now();
        assert!((0..3000).all(|_| restarts.after(&failed(), now) == Next::After(Duration::from_millis(100))));
        let policy = RestartPolicy { factor: f64::MAX, limit: None, ..RestartPolicy::always() };
        let mut restarts = Restarts::new(policy);
        restarts.after(&failed(), now);
        assert_eq!(restarts.after(&failed(), now), Next::After(Duration::from_secs(10)));
    }
}
