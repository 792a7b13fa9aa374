//! Running a component, again and again if its policy says so: what stands behind a [`Component`](crate::Component).

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
    pub stats: ComponentStats,
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

    /// How the component has ended, if it has for good.
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

/// What is due when a component has ended for good, however its task ends: if nothing else has said so, the task has been
/// dropped with its runtime.
pub(crate) struct Finish {
    status: watch::Sender<Status>,
    control: Arc<ComponentControl>,
    expectation: Arc<RestartExpectation>,
    began: Instant,
    /// The broker's own runtime goes with the last component.
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
            // A thread of its own may go on without the runtime.
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

/// Runs a component until its policy, or whoever asked it to stop, lets it rest.
///
/// `run` begins a run; whatever the former run held is released when its future has completed.
pub(crate) async fn supervise(
    name: String,
    policy: RestartPolicy,
    mut finish: Finish,
    run: impl FnMut() -> BoxFuture<'static, ComponentReport>,
) {
    // Its destructor is the user's. Dropped before `finish`, so that nothing of the component is left when it has ended.
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
            // The rest is done by `finish`.
            return;
        }
        finish.status.send_modify(|status| {
            status.state = ComponentState::Running;
            status.runs += 1;
        });
    }
}

/// One run, whatever becomes of it.
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
