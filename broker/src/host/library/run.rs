//! One run of a native component, from loading its code to closing it.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blockcast_blocks::abi::{Host, RUN_CANCELLED, RUN_FAILED, RUN_FINISHED, RUN_PANICKED, RUN_REFUSED};
use blockcast_blocks::charge_mappings;
use blockcast_blocks::shield::{Panicked, event};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::image::{Code, Image};
use super::instance::{Instance, LibrarySetup};
use super::program::LibraryProgram;
use super::state::LibraryState;
use super::table;
use super::threads::Threads;
use crate::component::exit::{ComponentReport, ExitReason};
use crate::component::limit_policy::Limit;
use crate::component::stats::ComponentStats;

/// How often a component's processor time is checked, if it is limited.
const COMPUTE_TICK: Duration = Duration::from_millis(5);

/// Memory mappings of a run: its stack (2), the library's segments (5), and what the C library keeps per
/// thread (2).
const MAPPINGS: usize = 9;

/// Stack size of a component's thread in bytes: that of a program's main thread on most systems.
pub(crate) const STACK: usize = 8 << 20;

/// Pauses between checks whether the threads that a component has left behind are gone: the first and the
/// longest.
const THREADS_TICK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// The outcome of a component's thread.
struct Outcome {
    reason: ExitReason,
    stats: ComponentStats,
    resources: RunResources,
}

/// The resources of the component's code while any of it runs: the image and the table, and through the
/// instance its blocks, the parameters and the word that says that the run is over.
///
/// Dropping this starts a thread that waits for the component's threads and then closes the library.
struct RunResources(Option<Resources>);

/// The fields are in the order in which they are dropped.
struct Resources {
    thread: Option<JoinHandle<()>>,
    image: Option<Image>,
    host: Option<Box<Host>>,
    instance: Arc<Instance>,
    threads: Arc<Threads>,
}

impl RunResources {
    /// Number of threads that the component has started and that still exist.
    fn threads_left(&self) -> usize {
        self.0.as_ref().map_or(0, |resources| resources.threads.count())
    }

    /// Adds the thread of `run`, which must be joined before the library is closed.
    fn join_first(&mut self, thread: JoinHandle<()>) {
        if let Some(resources) = &mut self.0 {
            resources.thread = Some(thread);
        }
    }

    /// Joins the thread of `run`. Returns `false` if it has panicked.
    fn join(&mut self) -> bool {
        let thread = self.0.as_mut().and_then(|resources| resources.thread.take());
        thread.is_none_or(|thread| thread.join().is_ok())
    }

    /// Adds a thread that nobody joins and that must end before the library is closed.
    fn wait_for(&self, thread: libc::pid_t) {
        if let Some(resources) = &self.0 {
            resources.threads.add(thread);
        }
    }

    /// Closes the library and releases everything. Call this when all threads are gone.
    fn close(mut self) {
        if let Some(resources) = self.0.take() {
            resources.close();
        }
    }
}

impl Drop for RunResources {
    fn drop(&mut self) {
        let Some(resources) = self.0.take() else { return };
        // If no thread can be started, nothing is ever released, since threads of the component may still use
        // it.
        let resources = ManuallyDrop::new(resources);
        let closer = std::thread::Builder::new().name("blockcast-close".to_owned());
        let closing = closer.spawn(move || ManuallyDrop::into_inner(resources).wait_and_close());
        if let Err(error) = closing {
            event(
                || tracing::warn!(%error, "cannot start a thread to close a library: it stays loaded and keeps its blocks"),
            );
        }
    }
}

impl Resources {
    fn wait_and_close(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let (mut pause, longest) = THREADS_TICK;
        while self.threads.count() > 0 {
            std::thread::sleep(pause);
            pause = longest.min(pause * 2);
        }
        self.close();
    }

    fn close(self) {
        let Self { image, host, instance, .. } = self;
        drop(image);
        drop(host);
        // Dropped after the state is released.
        let _retained = instance.with(LibraryState::take_retained);
    }
}

impl LibraryProgram {
    /// Runs the app to its end. When the future completes, the library is closed and everything that the app
    /// had open is released, unless one of its threads is still running: see [`ExitReason::Abandoned`].
    ///
    /// ```text
    ///  app returns ─▶ release: nobody waits for it, its blocks stay ─▶ its thread is joined ─▶
    ///      all its threads are gone ─▶ the library is closed ─▶ take_retained: its blocks are released
    /// ```
    /// Code of the app may run until the library is closed: thread-local destructors, and threads that it has
    /// left behind.
    pub(crate) async fn run(&self, setup: LibrarySetup) -> ComponentReport {
        let instance = Instance::new(setup);
        let counted = Arc::downgrade(&instance);
        instance.setup.control.count_with(Arc::new(move || counted.upgrade()?.stats()));
        let (started, has_started) = oneshot::channel();
        let (sender, outcome) = oneshot::channel();
        let thread = std::thread::Builder::new().name(self.name().to_owned()).stack_size(STACK).spawn({
            let (code, instance) = (self.code().clone(), Arc::clone(&instance));
            move || {
                let threads = Arc::<Threads>::default();
                // SAFETY: the run's resources keep them until all of its threads are gone.
                unsafe { threads.adopt() };
                // SAFETY: a system call without arguments.
                let own = unsafe { libc::gettid() };
                if let Err(outcome) = sender.send(run(&code, &instance, &threads, started)) {
                    // Nobody joins this thread, which may have thread-local variables of the library.
                    outcome.resources.wait_for(own);
                }
            }
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => {
                let reason = ExitReason::NotStarted(format!("cannot start a thread: {error}"));
                return ComponentReport { reason, stats: ComponentStats::default() };
            }
        };
        // A task of its own, so that it continues if this future is dropped.
        let grace = instance.setup.limits.shutdown_grace;
        let mut closing = tokio::spawn(close(outcome, thread, grace));
        let end_on_drop = EndOnDrop(&instance);
        let reason = tokio::select! {
            biased;
            report = &mut closing => return report.unwrap_or_else(|_| lost()),
            reason = overdue(&instance, has_started) => reason,
        };
        instance.end(reason.clone());
        drop(end_on_drop);
        match tokio::time::timeout(instance.setup.limits.shutdown_grace, &mut closing).await {
            Ok(report) => report.unwrap_or_else(|_| lost()),
            Err(_) => {
                // Close what it has open, as if it had returned, so that nobody waits for it. Memory that it
                // may use stays.
                let _ = instance.with(LibraryState::release);
                let stats = instance.stats().unwrap_or_else(|| instance.setup.control.shown_stats());
                ComponentReport { reason: ExitReason::Abandoned(reason.to_string()), stats }
            }
        }
    }
}

/// Waits until all threads are gone, then closes the library. Threads that the component has started get the
/// grace period.
async fn close(
    outcome: oneshot::Receiver<Outcome>,
    thread: JoinHandle<()>,
    grace: Duration,
) -> ComponentReport {
    let Ok(Outcome { reason, stats, mut resources }) = outcome.await else { return lost() };
    resources.join_first(thread);
    // Joining and closing take microseconds, but they run the library's destructors.
    let joined = spawn_blocking(move || (resources.join(), resources));
    let Ok((true, resources)) = joined.await else { return lost() };
    let (mut pause, longest) = THREADS_TICK;
    let deadline = Instant::now().checked_add(grace);
    loop {
        let threads = resources.threads_left();
        if threads == 0 {
            break;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let still_running = match threads {
                1 => "1 of its threads is".to_owned(),
                _ => format!("{threads} of its threads are"),
            };
            // The library is closed when the threads are gone.
            return ComponentReport {
                reason: ExitReason::Abandoned(format!("{reason}, but {still_running} still running")),
                stats,
            };
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
    match spawn_blocking(move || resources.close()).await {
        Ok(()) => ComponentReport { reason, stats },
        Err(_) => lost(),
    }
}

/// The report of a component whose thread ended abnormally.
fn lost() -> ComponentReport {
    let reason = ExitReason::HostPanicked("has lost its thread".to_owned());
    ComponentReport { reason, stats: ComponentStats::default() }
}

/// Waits until the run has to end, and returns why.
async fn overdue(instance: &Instance, has_started: oneshot::Receiver<()>) -> ExitReason {
    let (limits, control) = (&instance.setup.limits, &instance.setup.control);
    let start_up = async {
        if tokio::time::timeout(limits.start_up, has_started).await.is_err() {
            return Limit::StartUp;
        }
        match limits.run_time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
        Limit::RunTime
    };
    let grace = async {
        control.shutdown().await;
        tokio::time::sleep(limits.shutdown_grace).await;
        Limit::ShutdownGrace
    };
    let compute = async {
        let Some(compute) = limits.compute else { return std::future::pending().await };
        while instance.computed() <= compute {
            tokio::time::sleep(COMPUTE_TICK).await;
        }
        Limit::Compute
    };
    tokio::select! {
        biased;
        () = control.cancelled() => ExitReason::Cancelled,
        limit = start_up => ExitReason::Killed(limit),
        limit = grace => ExitReason::Killed(limit),
        limit = compute => ExitReason::Killed(limit),
    }
}

/// Ends a run when nobody waits for it any more.
struct EndOnDrop<'r>(&'r Instance);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end(ExitReason::Cancelled);
    }
}

/// The body of the component's thread.
fn run(
    code: &Code,
    instance: &Arc<Instance>,
    threads: &Arc<Threads>,
    started: oneshot::Sender<()>,
) -> Outcome {
    // Never dropped on this thread, since its thread-local destructors may belong to the library.
    let (mut image, mut host) = (None, None);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        charge_mappings(MAPPINGS).map_err(|error| ExitReason::NotStarted(error.to_string()))?;
        // SAFETY: the code that loaded the program has vouched for the file, and these are its bytes.
        let opened = unsafe { Image::open(code) };
        let image = image.insert(opened.map_err(|error| ExitReason::NotStarted(error.to_string()))?);
        let host = host.insert(Box::new(table::host(instance)));
        let entered = instance.enter();
        // Fails if the start took too long. The run has to end then.
        let _ = started.send(());
        let returned = if instance.is_over() {
            RUN_CANCELLED
        } else {
            // SAFETY: this is the library's own function, called as the contract says: on a thread of its
            // own, with a table that is kept until the library is closed.
            unsafe { (image.app().run)(&raw const **host) }
        };
        drop(entered);
        Ok(returned)
    }));
    let reason = match outcome {
        Ok(Ok(returned)) => exit_reason(instance, returned),
        Ok(Err(reason)) => instance.ending().unwrap_or(reason),
        Err(payload) => ExitReason::HostPanicked(Panicked::new(payload).to_string()),
    };
    let stats = instance.stats().unwrap_or_else(|| instance.setup.control.shown_stats());
    let _ = instance.with(LibraryState::release);
    let (instance, threads) = (Arc::clone(instance), Arc::clone(threads));
    let resources = Resources { thread: None, image, host, instance, threads };
    Outcome { reason, stats, resources: RunResources(Some(resources)) }
}

/// Returns why the run ended, given the app's result.
fn exit_reason(instance: &Instance, returned: u32) -> ExitReason {
    if let Some(reason) = instance.ending() {
        return reason;
    }
    if instance.setup.control.is_cancelled() {
        return ExitReason::Cancelled; // it returned before it was ended
    }
    let failure = instance.with(|state| state.failure.take()).ok().flatten();
    let failure = failure.filter(|failure| !failure.is_empty());
    let or = |default: &str| failure.clone().unwrap_or_else(|| default.to_owned());
    match returned {
        RUN_FINISHED => ExitReason::Finished,
        RUN_FAILED => ExitReason::Failed(or("it did not say why")),
        RUN_PANICKED => ExitReason::Trapped { message: or("panicked"), backtrace: String::new() },
        RUN_REFUSED => ExitReason::NotStarted(or("it refused the host's table")),
        other => {
            let failure = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
            ExitReason::Failed(format!("it returned {other}{failure}"))
        }
    }
}
