//! When a component that has ended is started again: [`RestartPolicy`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::component::exit::ExitReason;

/// After which ends a component is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// After none.
    #[default]
    Never,
    /// Unless it has finished.
    OnFailure,
    /// Also when it has finished.
    Always,
}

/// Whether, when and how often a component is started again after it has ended.
///
/// The pause before a restart grows with the number of restarts within the last [`period`](Self::period): `initial`,
/// `initial * factor`, and so on up to `max`. So a component that went well for a period begins anew. A component that
/// was asked to stop is not restarted.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// After which ends.
    pub restart: Restart,
    /// Pause before the first restart.
    pub initial: Duration,
    /// By how much each further pause is longer. Less than 1 counts as 1.
    pub factor: f64,
    /// Longest pause.
    pub max: Duration,
    /// Restarts within a period after which the component is given up. `None`: never.
    pub limit: Option<u32>,
    /// How long a restart counts.
    pub period: Duration,
}

impl RestartPolicy {
    /// No restart.
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

    /// Restarts unless the component has finished: after 100 ms, 200 ms and so on up to 10 s, up to five times a minute.
    #[must_use]
    pub fn on_failure() -> Self {
        Self { restart: Restart::OnFailure, ..Self::never() }
    }

    /// Restarts whatever the end was, otherwise as [`on_failure`](Self::on_failure).
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

/// What follows an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The component is started again after the pause.
    After(Duration),
    /// It is not.
    Stop,
    /// It would be, but for the number of restarts.
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

    /// What follows an end at `now`. A restart counts as made.
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
        // Beyond that many the pause is the longest in any case.
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
    fn a_policy_decides_by_the_reason() {
        let next = |policy, reason: &ExitReason| Restarts::new(policy).after(reason, Instant::now());
        let first = Next::After(Duration::from_millis(100));
        assert_eq!(next(RestartPolicy::never(), &failed()), Next::Stop);
        assert_eq!(next(RestartPolicy::on_failure(), &failed()), first);
        assert_eq!(next(RestartPolicy::on_failure(), &ExitReason::Finished), Next::Stop);
        assert_eq!(next(RestartPolicy::always(), &ExitReason::Finished), first);
        assert_eq!(
            next(RestartPolicy::always(), &ExitReason::Cancelled),
            Next::Stop,
            "who was ended stays so"
        );
    }

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew_after_a_quiet_period() {
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
    fn absurd_numbers_do_no_harm() {
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
