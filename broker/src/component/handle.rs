//! [`Component`]: the handle of a running component; [`ComponentOptions`]: how to run one.

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

/// How long to wait for a component's counters. A component that computes answers every 5 ms.
const STATS_PATIENCE: Duration = Duration::from_millis(50);

/// How to run a component. By default, it has no name, is granted nothing, and is not restarted.
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
    /// Creates the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name in logs and statistics. The default for guests and libraries is their program's name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets what the component may do and use.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// Adds a parameter, which [`Session::parameter`](crate::Session::parameter) returns for `name`.
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

    /// Sets whether and when the component is restarted after it has ended.
    #[must_use]
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.restart = policy;
        self
    }

    /// Sets whether its subscriptions wait for publishers that are restarted. By default, a topic ends for it
    /// once no publisher is left, even if the component of one is about to be restarted. For one subscription
    /// of a linked app,
    /// [`SubscriberOptions::await_restarts`](blockcast_subscriber::SubscriberOptions::await_restarts) does
    /// the same.
    #[must_use]
    pub fn await_restarts(mut self, wait: bool) -> Self {
        self.await_restarts = wait;
        self
    }

    /// Sets where the log of all runs goes. By default, log lines become `tracing` events with the
    /// component's name.
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

/// A component that the broker runs and, depending on its options, restarts. Dropping the handle does not end
/// the component; dropping the last [`Broker`](crate::Broker) cancels it.
pub struct Component {
    name: String,
    control: Arc<ComponentControl>,
    status: watch::Receiver<Status>,
    runtime: Handle,
    process: Process,
}

impl Component {
    /// Starts to supervise a component. Each call of `run` begins a run.
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
        // A runtime that has been shut down drops the task at once.
        if task.is_finished() && !begun.load(Ordering::Relaxed) {
            return Err(StartError::RuntimeShutDown);
        }
        Ok(Self { name, control, status, runtime: runtime.clone(), process: Process::current() })
    }

    /// Returns the name in logs and statistics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the component to finish. It is not restarted any more. If it has not finished after the grace
    /// period, a guest is ended and a native library is cancelled.
    pub fn request_shutdown(&self) {
        if self.is_inherited() {
            return;
        }
        self.control.request_shutdown();
    }

    /// Ends the component. It is not restarted any more, and everything that it held is released.
    ///
    /// - A guest ends within milliseconds.
    /// - A linked `async fn` ends at its next `.await`.
    /// - A linked plain `fn` ends when it next has to wait in a blocking call, which unwinds the stack.
    /// - A native library ends when it next calls the host.
    /// - A pause before a restart ends at once.
    ///
    /// A plain `fn` or a library that does not return within the grace period is
    /// [abandoned](ExitReason::Abandoned).
    pub fn cancel(&self) {
        if self.is_inherited() {
            return;
        }
        self.control.cancel();
    }

    /// Returns what the component is doing. In a forked child it counts as ended, since it runs in the
    /// parent.
    #[must_use]
    pub fn state(&self) -> ComponentState {
        if self.is_inherited() {
            return ComponentState::Ended;
        }
        self.status.borrow().state
    }

    /// Returns how the last run ended, once the component has ended for good.
    #[must_use]
    pub fn report(&self) -> Option<ComponentReport> {
        if self.is_inherited() {
            return Some(forked());
        }
        self.status.borrow().report()
    }

    /// Returns the latest exits, up to 64, oldest first.
    #[must_use]
    pub fn exits(&self) -> Vec<Exit> {
        if self.is_inherited() {
            return Vec::new();
        }
        self.status.borrow().exits.iter().cloned().collect()
    }

    /// Waits for the exit of run `number`, counted from 0. Returns `None` if the component ends for good
    /// before that run. If [`exits`](Self::exits) no longer contains that exit, returns the oldest one that
    /// it contains.
    pub async fn exit_of(&self, number: u64) -> Option<Exit> {
        if self.is_inherited() {
            return None;
        }
        let mut status = self.status.clone();
        let is_known = |status: &Status| {
            status.exits.back().is_some_and(|exit| exit.run >= number) || status.state.is_over()
        };
        let status = with_shielded_waker(status.wait_for(is_known)).await.ok()?;
        status.exits.iter().find(|exit| exit.run >= number).cloned()
    }

    /// Returns how often the component was restarted.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        if self.is_inherited() {
            return 0;
        }
        self.status.borrow().runs - 1
    }

    /// Returns the counters of a guest or a native library, over all its runs. Asks the running component and
    /// waits at most 50 ms for the answer. If it does not answer, for example during a long instruction, the
    /// latest known counters are used. Linked apps have no counters: their traffic is part of their topics'
    /// statistics.
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
            // A timer panics if its runtime is shut down meanwhile. Then nobody answers, and the latest
            // counters will do.
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
        // Read under one lock, so that a run that ends meanwhile is counted once.
        let status = self.status.borrow();
        match status.state {
            ComponentState::Running => self.control.shown_stats().after(&status.total),
            _ => status.total,
        }
    }

    /// Waits until the component has ended for good. Can be called any number of times.
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

    /// Whether this is a forked child, which has none of the broker's threads and in which its locks may
    /// never be released.
    fn is_inherited(&self) -> bool {
        !self.process.is_current()
    }

    /// Like [`ended`](Self::ended), but blocks the thread.
    ///
    /// Async code should await [`ended`](Self::ended) instead. On a worker of a multi-threaded runtime this
    /// works, too: the worker's other tasks move elsewhere. A current-thread runtime has no other thread to
    /// run the component. If one of its tasks waits for a component that it runs, this returns
    /// [`ExitReason::StillRunning`] at once.
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

/// Whether the calling code runs in a task, or in a future passed to `block_on`, on the thread that drives
/// the runtime. Only such code gets a budget from tokio.
fn drives_a_runtime() -> bool {
    let mut context = Context::from_waker(Waker::noop());
    // Dropped last, this restores the current budget.
    let Poll::Ready(_restore) = poll_proceed(&mut context) else { return true };
    (0..=u8::MAX).any(|_| match poll_proceed(&mut context) {
        Poll::Ready(proceed) => {
            proceed.made_progress();
            false
        }
        Poll::Pending => true,
    })
}

/// The report of a component whose task was dropped with its runtime.
fn gone() -> ComponentReport {
    ComponentReport { reason: ExitReason::Cancelled, stats: ComponentStats::default() }
}
