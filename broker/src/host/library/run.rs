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

/// How often the processor time is looked at of a component for which it is limited.
const COMPUTE_TICK: Duration = Duration::from_millis(5);

/// Memory mappings that a run takes: its stack (2), the library's parts (5), and what the C library keeps for a thread (2).
const MAPPINGS: usize = 9;

/// Stack of a component's thread in bytes, which is that of a program's main thread on most systems.
pub(crate) const STACK: usize = 8 << 20;

/// How often it is looked whether the threads that a component has left behind are gone: at first, and in the long run.
const THREADS_TICK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// What a component's thread leaves behind.
struct Left {
    reason: ExitReason,
    stats: ComponentStats,
    remains: Remains,
}

/// What code of the component may use until there is none left: the image, the table, and by way of the run the blocks that it
/// had, the parameters and the word that says that it is over.
///
/// Dropping it waits for the component's threads, in a thread of its own.
struct Remains(Option<Kept>);

/// Fields in the order in which they are dropped.
struct Kept {
    thread: Option<JoinHandle<()>>,
    image: Option<Image>,
    host: Option<Box<Host>>,
    instance: Arc<Instance>,
    threads: Arc<Threads>,
}

impl Remains {
    /// Threads that the component has started and that are not gone.
    fn threads_left(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.threads.left())
    }

    /// The thread of `run` is to be joined.
    fn join_first(&mut self, thread: JoinHandle<()>) {
        if let Some(kept) = &mut self.0 {
            kept.thread = Some(thread);
        }
    }

    /// Joins the thread of `run`. False if it has panicked.
    fn join(&mut self) -> bool {
        let thread = self.0.as_mut().and_then(|kept| kept.thread.take());
        thread.is_none_or(|thread| thread.join().is_ok())
    }

    /// This thread is to be gone first, which nobody joins.
    fn wait_for(&self, thread: libc::pid_t) {
        if let Some(kept) = &self.0 {
            kept.threads.note(thread);
        }
    }

    /// Closes the library and gives everything back. All threads are gone.
    fn close(mut self) {
        if let Some(kept) = self.0.take() {
            kept.close();
        }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let Some(kept) = self.0.take() else { return };
        // If there is no thread for it, nothing is ever given back: threads of the component may use it.
        let kept = ManuallyDrop::new(kept);
        let closer = std::thread::Builder::new().name("blockcast-close".to_owned());
        let closing = closer.spawn(move || ManuallyDrop::into_inner(kept).wait_and_close());
        if let Err(error) = closing {
            event(
                || tracing::warn!(%error, "no thread is left to close a library: it stays loaded, with its blocks"),
            );
        }
    }
}

impl Kept {
    fn wait_and_close(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let (mut pause, longest) = THREADS_TICK;
        while self.threads.left() > 0 {
            std::thread::sleep(pause);
            pause = longest.min(pause * 2);
        }
        self.close();
    }

    fn close(self) {
        let Self { image, host, instance, .. } = self;
        drop(image);
        drop(host);
        // Dropped when nothing is looked at any more.
        let _left = instance.with(LibraryState::forget);
    }
}

impl LibraryProgram {
    /// Runs the app to its end, whatever that is. When the future completes the library is closed and everything that the app
    /// had open is given back, unless one of its threads goes on: see [`ExitReason::Abandoned`].
    ///
    /// ```text
    ///  app returns ─▶ release: nobody waits for it, its blocks stay ─▶ its thread is joined ─▶ the others are gone ─▶
    ///      the library is closed ─▶ forget: its blocks are given back
    /// ```
    /// Code of the app runs until the library is closed: thread-local destructors, and threads that it has left behind.
    pub(crate) async fn run(&self, setup: LibrarySetup) -> ComponentReport {
        let instance = Instance::new(setup);
        let counted = Arc::downgrade(&instance);
        instance.setup.control.count_with(Arc::new(move || counted.upgrade()?.stats()));
        let (started, has_started) = oneshot::channel();
        let (leave, left) = oneshot::channel();
        let thread = std::thread::Builder::new().name(self.name().to_owned()).stack_size(STACK).spawn({
            let (code, instance) = (self.code().clone(), Arc::clone(&instance));
            move || {
                let threads = Arc::<Threads>::default();
                // SAFETY: what remains of the run keeps them until all of its threads are gone.
                unsafe { threads.adopt() };
                // SAFETY: a system call without arguments.
                let own = unsafe { libc::gettid() };
                if let Err(left) = leave.send(run(&code, &instance, &threads, started)) {
                    // Nobody joins this thread, whose thread-local variables may be the library's.
                    left.remains.wait_for(own);
                }
            }
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => {
                let reason = ExitReason::NotStarted(format!("no thread for it: {error}"));
                return ComponentReport { reason, stats: ComponentStats::default() };
            }
        };
        // A task of its own: it goes on if this one does not wait for it any more.
        let grace = instance.setup.limits.shutdown_grace;
        let mut gone = tokio::spawn(close(left, thread, grace));
        let told = EndOnDrop(&instance);
        let reason = tokio::select! {
            biased;
            report = &mut gone => return report.unwrap_or_else(|_| lost()),
            reason = overdue(&instance, has_started) => reason,
        };
        instance.end(reason.clone());
        drop(told);
        match tokio::time::timeout(instance.setup.limits.shutdown_grace, &mut gone).await {
            Ok(report) => report.unwrap_or_else(|_| lost()),
            Err(_) => {
                // What it has open is closed as if it had returned: nobody waits for it. What it may reach stays.
                let _ = instance.with(LibraryState::release);
                let stats = instance.stats().unwrap_or_else(|| instance.setup.control.shown_stats());
                ComponentReport { reason: ExitReason::Abandoned(reason.to_string()), stats }
            }
        }
    }
}

/// Waits until the threads are gone, then closes the library. Those that the component has started have time until the grace is
/// over.
async fn close(left: oneshot::Receiver<Left>, thread: JoinHandle<()>, grace: Duration) -> ComponentReport {
    let Ok(Left { reason, stats, mut remains }) = left.await else { return lost() };
    remains.join_first(thread);
    // Both this and closing take microseconds, but destructors of the library run in them.
    let joined = spawn_blocking(move || (remains.join(), remains));
    let Ok((true, remains)) = joined.await else { return lost() };
    let (mut pause, longest) = THREADS_TICK;
    let deadline = Instant::now().checked_add(grace);
    loop {
        let threads = remains.threads_left();
        if threads == 0 {
            break;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let (number, go) = if threads == 1 {
                ("1 thread".to_owned(), "goes")
            } else {
                (format!("{threads} threads"), "go")
            };
            // Closed when they are gone.
            return ComponentReport {
                reason: ExitReason::Abandoned(format!("{reason}, but {number} of it {go} on")),
                stats,
            };
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
    match spawn_blocking(move || remains.close()).await {
        Ok(()) => ComponentReport { reason, stats },
        Err(_) => lost(),
    }
}

/// The report of a component whose thread ended in a way in which threads do not end.
fn lost() -> ComponentReport {
    let reason = ExitReason::HostPanicked("has lost its thread".to_owned());
    ComponentReport { reason, stats: ComponentStats::default() }
}

/// Returns when the run has to end, and why.
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

/// Tells a run to end when nobody waits for it any more.
struct EndOnDrop<'r>(&'r Instance);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end(ExitReason::Cancelled);
    }
}

/// The component's thread.
fn run(code: &Code, instance: &Arc<Instance>, threads: &Arc<Threads>, started: oneshot::Sender<()>) -> Left {
    // Not closed here whatever happens: this thread's destructors may be the library's.
    let (mut image, mut host) = (None, None);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        charge_mappings(MAPPINGS).map_err(|error| ExitReason::NotStarted(error.to_string()))?;
        // SAFETY: whoever loaded the program has vouched for the file, and these are its bytes.
        let opened = unsafe { Image::open(code) };
        let image = image.insert(opened.map_err(|error| ExitReason::NotStarted(error.to_string()))?);
        let host = host.insert(Box::new(table::host(instance)));
        let entered = instance.enter();
        // Nobody listens if it took too long: it is to end then.
        let _ = started.send(());
        let returned = if instance.is_over() {
            RUN_CANCELLED
        } else {
            // SAFETY: the library's own function, called as the contract says: with a table that is kept until the library
            // is closed, on a thread of its own.
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
    Left { reason, stats, remains: Remains(Some(Kept { thread: None, image, host, instance, threads })) }
}

/// How the run has ended, given what the app returned.
fn exit_reason(instance: &Instance, returned: u32) -> ExitReason {
    if let Some(reason) = instance.ending() {
        return reason;
    }
    if instance.setup.control.is_cancelled() {
        return ExitReason::Cancelled; // it has returned before it was told
    }
    let said = instance.with(|state| state.said.take()).ok().flatten().filter(|said| !said.is_empty());
    let or = |otherwise: &str| said.clone().unwrap_or_else(|| otherwise.to_owned());
    match returned {
        RUN_FINISHED => ExitReason::Finished,
        RUN_FAILED => ExitReason::Failed(or("it did not say why")),
        RUN_PANICKED => ExitReason::Trapped { message: or("panicked"), backtrace: String::new() },
        RUN_REFUSED => ExitReason::NotStarted(or("it refuses the host's table")),
        other => {
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            ExitReason::Failed(format!("it returned {other}{said}"))
        }
    }
}
