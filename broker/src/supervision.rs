//! Running a component, again and again if its policy says so: what stands behind a [`Component`](crate::Component).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::guest::{ExitReason, GuestControl, GuestReport, GuestStats};
use crate::restart::{Next, RestartPolicy, Restarts};

/// Ends of a component that are kept.
const HISTORY: usize = 64;

/// One end of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Which run it was, from 0 on.
    pub run: u64,
    /// When it was.
    pub at: SystemTime,
    /// How long the run had lasted.
    pub lasted: Duration,
    /// Why it ended.
    pub reason: ExitReason,
    /// What the run did.
    pub stats: GuestStats,
}

/// What a component is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComponentState {
    /// It runs.
    Running,
    /// It has ended and is started again when the pause is over.
    Pausing,
    /// It has ended for good.
    Ended,
    /// It has ended for good, because it was restarted too often.
    GivenUp,
}

impl ComponentState {
    /// Whether it has ended for good.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::GivenUp)
    }
}

/// What is known of a component.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) state: ComponentState,
    /// Runs begun.
    pub(crate) runs: u64,
    /// The latest ends, oldest first.
    pub(crate) exits: VecDeque<Exit>,
    /// What all runs did that have ended.
    pub(crate) total: GuestStats,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self { state: ComponentState::Running, runs: 1, exits: VecDeque::new(), total: GuestStats::default() }
    }

    /// How the component has ended, if it has for good.
    pub(crate) fn report(&self) -> Option<GuestReport> {
        let exit = self.exits.back().filter(|_| self.state.is_over())?;
        Some(GuestReport { reason: exit.reason.clone(), stats: exit.stats })
    }

    fn record(&mut self, exit: Exit) {
        self.total = exit.stats.after(&self.total);
        if self.exits.len() == HISTORY {
            self.exits.pop_front();
        }
        self.exits.push_back(exit);
    }
}

/// Runs a component until its policy, or whoever asked it to stop, lets it rest.
///
/// `run` begins a run; whatever the former run held is released when its future has completed.
pub(crate) async fn supervise(
    name: String,
    control: Arc<GuestControl>,
    policy: RestartPolicy,
    status: watch::Sender<Status>,
    mut run: impl FnMut() -> BoxFuture<'static, GuestReport>,
) {
    let mut restarts = Restarts::new(policy);
    for number in 0.. {
        let began = Instant::now();
        let GuestReport { reason, stats } = run().await;
        let next = if control.is_shutdown_requested() {
            Next::Stop
        } else {
            restarts.after(&reason, Instant::now())
        };
        let lasted = began.elapsed();
        tracing::info!(component = name, run = number, %reason, ?lasted, ?next, "component ended");
        let exit = Exit { run: number, at: SystemTime::now(), lasted, reason, stats };
        status.send_modify(|status| {
            status.record(exit);
            status.state = match next {
                Next::After(_) => ComponentState::Pausing,
                Next::Stop => ComponentState::Ended,
                Next::GiveUp => ComponentState::GivenUp,
            };
        });
        let Next::After(pause) = next else { return };
        let asked_to_stop = tokio::select! {
            biased;
            () = control.shutdown() => true,
            () = tokio::time::sleep(pause) => false,
        };
        status.send_modify(|status| {
            if asked_to_stop {
                status.state = ComponentState::Ended;
            } else {
                status.state = ComponentState::Running;
                status.runs += 1;
            }
        });
        if asked_to_stop {
            return;
        }
    }
}
