//! Runs a component and restarts it as its policy says. A [`Component`](crate::Component) observes this.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use blockcast_blocks::shield::{Panicked, Shielded, event, shielded};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::component::cancellation::ComponentControl;
use crate::component::exit::{ComponentReport, ExitReason};
use crate::component::restart::{Next, RestartPolicy, Restarts};
use crate::component::stats::ComponentStats;
use crate::control::expectation::RestartExpectation;
use crate::control::tasks::Tasks;

/// Number of a component's exits that are kept.
const HISTORY: usize = 64;

/// The exit of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Number of the run, counted from 0.
    pub run: u64,
    /// When the run ended.
    pub at: SystemTime,
    /// How long the run lasted.
    pub lasted: Duration,
    /// Why the run ended.
    pub reason: ExitReason,
    /// The run's counters.
    pub stats: ComponentStats,
}

/// The state of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComponentState {
    /// It runs.
    Running,
    /// It has ended and will be restarted after a pause.
    Pausing,
    /// It has ended for good.
    Ended,
    /// It has ended for good because it was restarted too often.
    GivenUp,
}

impl ComponentState {
    /// Returns `true` if it has ended for good.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::GivenUp)
    }
}

/// A component's state and history.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) state: ComponentState,
    /// Number of runs begun.
    pub(crate) runs: u64,
    /// The latest exits, oldest first.
    pub(crate) exits: VecDeque<Exit>,
    /// Counters of all runs that have ended.
    pub(crate) total: ComponentStats,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            state: ComponentState::Running,
            runs: 1,
            exits: VecDeque::new(),
            total: ComponentStats::default(),
        }
    }

    /// How the component ended, if it has ended for good.
    pub(crate) fn report(&self) -> Option<ComponentReport> {
        let exit = self.exits.back().filter(|_| self.state.is_over())?;
        Some(ComponentReport { reason: exit.reason.clone(), stats: exit.stats })
    }

    fn record(&mut self, exit: Exit) {
        self.total = exit.stats.after(&self.total);
        if self.exits.len() == HISTORY {
            self.exits.pop_front();
        }
        self.exits.push_back(exit);
    }
}

/// Completes the end of a component that will not run again, even if its task is dropped with its runtime.
pub(crate) struct Finish {
    status: watch::Sender<Status>,
    control: Arc<ComponentControl>,
    expectation: Arc<RestartExpectation>,
    began: Instant,
    /// The broker's own runtime ends with the last component.
    _tasks: Arc<Tasks>,
}

impl Finish {
    pub(crate) fn new(
        status: watch::Sender<Status>,
        control: Arc<ComponentControl>,
        expectation: Arc<RestartExpectation>,
        tasks: Arc<Tasks>,
    ) -> Self {
        Self { status, control, expectation, began: Instant::now(), _tasks: tasks }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.expectation.end();
        if !self.status.borrow().state.is_over() {
            // A component on a thread of its own may still run without the runtime.
            self.control.cancel();
        }
        self.status.send_if_modified(|status| {
            let lost = !status.state.is_over();
            if status.state == ComponentState::Running {
                let (run, lasted) = (status.runs - 1, self.began.elapsed());
                let (reason, stats) = (ExitReason::Cancelled, ComponentStats::default());
                status.record(Exit { run, at: SystemTime::now(), lasted, reason, stats });
            }
            if lost {
                status.state = ComponentState::Ended;
            }
            lost
        });
    }
}

/// Runs a component until its policy does not restart it any more, or until it is asked to stop.
///
/// `run` begins a run. When its future completes, everything that the run held has been released.
pub(crate) async fn supervise(
    name: String,
    policy: RestartPolicy,
    mut finish: Finish,
    run: impl FnMut() -> BoxFuture<'static, ComponentReport>,
) {
    // Its destructor is the user's code. Dropped before `finish`, so that nothing is left of the component
    // when it has ended.
    let mut run = Some(Shielded::new(run));
    let control = Arc::clone(&finish.control);
    let mut restarts = Restarts::new(policy);
    for number in 0.. {
        finish.began = Instant::now();
        let ComponentReport { reason, stats } = match &mut run {
            Some(run) => one_run(&mut **run).await,
            None => return,
        };
        let next = if control.is_shutdown_requested() {
            Next::Stop
        } else {
            restarts.after(&reason, Instant::now())
        };
        let lasted = finish.began.elapsed();
        event(|| tracing::info!(component = name, run = number, %reason, ?lasted, ?next, "component ended"));
        let exit = Exit { run: number, at: SystemTime::now(), lasted, reason, stats };
        if !matches!(next, Next::After(_)) {
            run = None;
            finish.expectation.end();
        }
        finish.status.send_modify(|status| {
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
        if asked_to_stop {
            // `finish` does the rest.
            return;
        }
        finish.status.send_modify(|status| {
            status.state = ComponentState::Running;
            status.runs += 1;
        });
    }
}

/// Runs once. A panic becomes the exit reason.
async fn one_run(run: &mut impl FnMut() -> BoxFuture<'static, ComponentReport>) -> ComponentReport {
    let outcome = match shielded(run) {
        Ok(future) => {
            let mut future = Shielded::new(future);
            AssertUnwindSafe(future.as_mut()).catch_unwind().await.map_err(Panicked::new)
        }
        Err(panicked) => Err(panicked),
    };
    outcome.unwrap_or_else(|panicked| ComponentReport {
        reason: ExitReason::HostPanicked(panicked.to_string()),
        stats: ComponentStats::default(),
    })
}
