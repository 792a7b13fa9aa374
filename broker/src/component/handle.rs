//! [`Component`]: the handle on a running app, linked or guest; [`ComponentOptions`]: how it is run.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use blockcast_blocks::shield::with_shielded_waker;
use blockcast_blocks::{Process, park};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tokio::task::coop::poll_proceed;

use crate::component::cancellation::ComponentControl;
use crate::component::exit::{ComponentReport, ExitReason};
use crate::component::restart::RestartPolicy;
use crate::component::stats::ComponentStats;
use crate::component::supervision::{ComponentState, Exit, Finish, Status, supervise};
use crate::control::expectation::RestartExpectation;
use crate::control::grants::Grants;
use crate::control::start_error::StartError;
use crate::control::tasks::Tasks;
use crate::hosting::log::LogSink;

/// How long a component is waited for that was asked for its counters. One that computes looks every 5 ms.
const STATS_PATIENCE: Duration = Duration::from_millis(50);

/// How a component is run. By default it has no name, is granted nothing, and is not restarted.
#[derive(Clone, Default)]
pub struct ComponentOptions {
    pub(crate) name: Option<String>,
    pub(crate) grants: Grants,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) restart: RestartPolicy,
    pub(crate) log: Option<LogSink>,
    pub(crate) await_restarts: bool,
}

impl ComponentOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Name in logs and statistics. A guest's default is the name of its program.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What it may do and use.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// Adds what [`Session::parameter`](crate::Session::parameter) answers for `name`.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Adds several [parameters](Self::parameter).
    #[must_use]
    pub fn parameters(mut self, parameters: impl IntoIterator<Item = (String, String)>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Whether and when it is started again after it has ended.
    #[must_use]
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.restart = policy;
        self
    }

    /// Whether its subscriptions wait for publishers that are restarted. By default a topic has ended for it once no publisher
    /// is left, even if the component of one is about to be restarted. See
    /// [`SubscriberOptions::await_restarts`](blockcast_subscriber::SubscriberOptions::await_restarts), which does the same for
    /// one subscription of a linked app.
    #[must_use]
    pub fn await_restarts(mut self, wait: bool) -> Self {
        self.await_restarts = wait;
        self
    }

    /// Where its log goes, of all runs. By default its lines become `tracing` events with its name.
    #[must_use]
    pub fn log(mut self, log: LogSink) -> Self {
        self.log = Some(log);
        self
    }
}

impl fmt::Debug for ComponentOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentOptions")
            .field("name", &self.name)
            .field("grants", &self.grants)
            .field("parameters", &self.parameters)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// An app that the broker runs, and restarts if it was started so. Dropping the handle leaves the app running; dropping the
/// last [`Broker`](crate::Broker) cancels it.
pub struct Component {
    name: String,
    control: Arc<ComponentControl>,
    status: watch::Receiver<Status>,
    runtime: Handle,
    process: Process,
}

impl Component {
    /// Supervises what `run` begins each time that it is called.
    pub(crate) fn spawn(
        runtime: &Handle,
        name: String,
        control: Arc<ComponentControl>,
        policy: RestartPolicy,
        (expectation, tasks): (Arc<RestartExpectation>, Arc<Tasks>),
        run: impl FnMut() -> BoxFuture<'static, ComponentReport> + Send + 'static,
    ) -> Result<Self, StartError> {
        let (sender, status) = watch::channel(Status::new());
        let begun = Arc::new(AtomicBool::new(false));
        let finish = Finish::new(sender, Arc::clone(&control), expectation, tasks);
        let supervised = supervise(name.clone(), policy, finish, run);
        let task = runtime.spawn({
            let begun = Arc::clone(&begun);
            async move {
                begun.store(true, Ordering::Relaxed);
                supervised.await;
            }
        });
        // A runtime that is shut down drops the task at once.
        if task.is_finished() && !begun.load(Ordering::Relaxed) {
            return Err(StartError::RuntimeShutDown);
        }
        Ok(Self { name, control, status, runtime: runtime.clone(), process: Process::current() })
    }

    /// Name in logs and statistics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the app to finish; it is not restarted any more. A guest that goes on regardless is ended when its
    /// grace is over, and a native library is told to end.
    pub fn request_shutdown(&self) {
        if self.is_inherited() {
            return;
        }
        self.control.request_shutdown();
    }

    /// Ends the app: a guest within milliseconds, a linked `async fn` at its next `.await`, a linked plain `fn` when it next has to
    /// wait in a blocking call, which unwinds, a native library when it next calls the host (one of these two that does not
    /// return within its grace is [abandoned](ExitReason::Abandoned)), a pause before a restart at once. What it held is
    /// released, and it is not restarted any more.
    pub fn cancel(&self) {
        if self.is_inherited() {
            return;
        }
        self.control.cancel();
    }

    /// What it is doing. In a forked child it has ended: it runs in the parent.
    #[must_use]
    pub fn state(&self) -> ComponentState {
        if self.is_inherited() {
            return ComponentState::Ended;
        }
        self.status.borrow().state
    }

    /// How the app has ended, if it has for good. If it was restarted, this is about its last run.
    #[must_use]
    pub fn report(&self) -> Option<ComponentReport> {
        if self.is_inherited() {
            return Some(forked());
        }
        self.status.borrow().report()
    }

    /// Its latest ends, oldest first: up to 64.
    #[must_use]
    pub fn exits(&self) -> Vec<Exit> {
        if self.is_inherited() {
            return Vec::new();
        }
        self.status.borrow().exits.iter().cloned().collect()
    }

    /// Waits for the end of run `number`, counted from 0. `None` if there is no such run: it has ended for good
    /// before. If that end is not [kept](Self::exits) any more, the oldest one that is.
    pub async fn exit_of(&self, number: u64) -> Option<Exit> {
        if self.is_inherited() {
            return None;
        }
        let mut status = self.status.clone();
        let there = |status: &Status| {
            status.exits.back().is_some_and(|exit| exit.run >= number) || status.state.is_over()
        };
        let status = with_shielded_waker(status.wait_for(there)).await.ok()?;
        status.exits.iter().find(|exit| exit.run >= number).cloned()
    }

    /// How often it was restarted.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        if self.is_inherited() {
            return 0;
        }
        self.status.borrow().runs - 1
    }

    /// What a guest or a native library has done so far, in all its runs. Asks the running one, and waits for the answer for 50 ms at
    /// most; one that is in the middle of a long instruction is counted as it was seen last. Nothing is counted for
    /// linked apps, whose traffic is part of their topics' statistics.
    pub async fn stats(&self) -> ComponentStats {
        if self.is_inherited() {
            return ComponentStats::default();
        }
        if self.state() == ComponentState::Running {
            let asked = self.control.ask_stats();
            let patience = async {
                let sleep = {
                    let _context = self.runtime.enter();
                    tokio::time::sleep(STATS_PATIENCE)
                };
                sleep.await;
            };
            // A timer panics if its runtime was shut down meanwhile: then nobody answers either. What was shown last will do.
            let patience = AssertUnwindSafe(patience).catch_unwind();
            let answer = self.control.stats_shown(asked);
            with_shielded_waker(async {
                tokio::select! {
                    biased;
                    () = answer => {}
                    _ = patience => {}
                }
            })
            .await;
        }
        // Both under the lock: a run that ends meanwhile is counted once.
        let status = self.status.borrow();
        match status.state {
            ComponentState::Running => self.control.shown_stats().after(&status.total),
            _ => status.total,
        }
    }

    /// Waits for the app's end, for good. Can be called any number of times.
    pub async fn ended(&self) -> ComponentReport {
        if self.is_inherited() {
            return forked();
        }
        let mut status = self.status.clone();
        match with_shielded_waker(status.wait_for(|status| status.state.is_over())).await {
            Ok(status) => status.report().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    /// Whether this is a forked child, which has none of the broker's threads, and whose locks may be taken for ever.
    fn is_inherited(&self) -> bool {
        !self.process.is_current()
    }

    /// Blocks the thread until the app's end, for good.
    ///
    /// Async code awaits [`ended`](Self::ended) instead. On a worker of a runtime with several threads this works, too: the
    /// worker's other tasks go on elsewhere. A current-thread runtime has nobody else to run the app: called in one of its
    /// tasks, for an app that it runs, this does not wait but returns [`ExitReason::StillRunning`].
    #[must_use]
    pub fn wait(&self) -> ComponentReport {
        if let Some(report) = self.report() {
            return report;
        }
        match Handle::try_current() {
            Ok(current) if drives_a_runtime() => match current.runtime_flavor() {
                RuntimeFlavor::MultiThread => tokio::task::block_in_place(|| self.block()),
                _ if current.id() == self.runtime.id() => {
                    ComponentReport { reason: ExitReason::StillRunning, stats: ComponentStats::default() }
                }
                _ => self.block(),
            },
            _ => self.block(),
        }
    }

    fn block(&self) -> ComponentReport {
        let mut ended = std::pin::pin!(self.ended());
        park::until(None, |cx| ended.as_mut().poll(cx)).unwrap_or_else(gone)
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("state", &self.state())
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

/// The report of a component in a forked child.
fn forked() -> ComponentReport {
    let reason = "it runs in the process that was forked, not in this child";
    ComponentReport { reason: ExitReason::System(reason.to_owned()), stats: ComponentStats::default() }
}

/// Whether this code runs in a task of a runtime, or in what a runtime blocks on, on the thread that drives it: tokio gives
/// such code a budget, and no other.
fn drives_a_runtime() -> bool {
    let mut context = Context::from_waker(Waker::noop());
    // Dropped last, it restores the budget as it is now.
    let Poll::Ready(_restore) = poll_proceed(&mut context) else { return true };
    (0..=u8::MAX).any(|_| match poll_proceed(&mut context) {
        Poll::Ready(proceed) => {
            proceed.made_progress();
            false
        }
        Poll::Pending => true,
    })
}

/// The report of a component whose task went away with its runtime.
fn gone() -> ComponentReport {
    ComponentReport { reason: ExitReason::Cancelled, stats: ComponentStats::default() }
}
