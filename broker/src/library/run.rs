//! One run of a native component, from loading its code to closing it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::JoinHandle;
use std::time::Duration;

use blockcast_blocks::ArenaPin;
use blockcast_blocks::abi::{Host, RUN_CANCELLED, RUN_FAILED, RUN_FINISHED, RUN_PANICKED, RUN_REFUSED};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::image::{Code, Image};
use super::instance::{Instance, LibrarySetup};
use super::program::LibraryProgram;
use super::state::LibraryState;
use super::table;
use crate::guest::{ExitReason, GuestReport, GuestStats, Limit};

/// How often the processor time is looked at of a component for which it is limited.
const COMPUTE_TICK: Duration = Duration::from_millis(5);

/// Stack of a component's thread in bytes, which is that of a program's main thread on most systems.
pub(crate) const STACK: usize = 8 << 20;

/// What the component may look at until its library is closed: the table, the word that says that it is over, and what the lines of
/// publishers that it has not closed lead to.
type Kept = (Box<Host>, Arc<AtomicU32>, Vec<ArenaPin>);

/// What a component's thread leaves behind.
struct Left {
    reason: ExitReason,
    stats: GuestStats,
    /// To be closed once the thread is gone.
    image: Option<(Image, Kept)>,
}

impl LibraryProgram {
    /// Runs the app to its end, whatever that is. When the future completes the library is closed and everything that the app
    /// had open is given back, unless it was told to end and has not returned: see [`ExitReason::Abandoned`].
    pub(crate) async fn run(&self, setup: LibrarySetup) -> GuestReport {
        let instance = Instance::new(setup);
        let counted = Arc::downgrade(&instance);
        instance.setup.control.count_with(Box::new(move || counted.upgrade().map(|run| run.stats())));
        let (started, has_started) = oneshot::channel();
        let (leave, left) = oneshot::channel();
        let thread = std::thread::Builder::new().name(self.name().to_owned()).stack_size(STACK).spawn({
            let (code, instance) = (self.code().clone(), Arc::clone(&instance));
            move || {
                if let Err(Left { image, .. }) = leave.send(run(&code, &instance, started)) {
                    // Nobody is left to close it, and this thread cannot: its thread-local variables may be the library's.
                    std::mem::forget(image);
                }
            }
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => {
                let reason = ExitReason::NotStarted(format!("no thread for it: {error}"));
                return GuestReport { reason, stats: GuestStats::default() };
            }
        };
        // A task of its own: it goes on if this one does not wait for it any more.
        let mut gone = tokio::spawn(close(left, thread));
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
                let stats = instance.stats();
                GuestReport { reason: ExitReason::Abandoned(reason.to_string()), stats }
            }
        }
    }
}

/// Waits until the thread is gone, then closes the library.
async fn close(left: oneshot::Receiver<Left>, thread: JoinHandle<()>) -> GuestReport {
    let Ok(Left { reason, stats, image }) = left.await else { return lost() };
    // Both take microseconds, but destructors of the library run in them.
    let closed = spawn_blocking(move || {
        let joined = thread.join();
        drop(image);
        joined.is_ok()
    });
    match closed.await {
        Ok(true) => GuestReport { reason, stats },
        _ => lost(),
    }
}

/// The report of a component whose thread ended in a way in which threads do not end.
fn lost() -> GuestReport {
    let reason = ExitReason::System("the host panicked on its behalf".to_owned());
    GuestReport { reason, stats: GuestStats::default() }
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
fn run(code: &Code, instance: &Arc<Instance>, started: oneshot::Sender<()>) -> Left {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: whoever loaded the program has vouched for the file, and these are its bytes.
        let image =
            unsafe { Image::open(code) }.map_err(|error| ExitReason::NotStarted(error.to_string()))?;
        let host = Box::new(table::host(instance));
        let entered = instance.enter();
        // Nobody listens if it took too long: it is to end then.
        let _ = started.send(());
        let returned = if instance.is_over() {
            RUN_CANCELLED
        } else {
            // SAFETY: the library's own function, called as the contract says: with a table that is kept until the library
            // is closed, on a thread of its own.
            unsafe { (image.app().run)(&raw const *host) }
        };
        drop(entered);
        Ok((returned, image, host))
    }));
    let (reason, image) = match outcome {
        Ok(Ok((returned, image, host))) => (exit_reason(instance, returned), Some((image, host))),
        Ok(Err(reason)) => (instance.ending().unwrap_or(reason), None),
        Err(_) => (ExitReason::System("the host panicked on its behalf".to_owned()), None),
    };
    let stats = instance.stats();
    let lines = instance.with(LibraryState::release);
    let image = image.map(|(image, host)| (image, (host, instance.keep_over(), lines)));
    Left { reason, stats, image }
}

/// How the run has ended, given what the app returned.
fn exit_reason(instance: &Instance, returned: u32) -> ExitReason {
    if let Some(reason) = instance.ending() {
        return reason;
    }
    if instance.setup.control.is_cancelled() {
        return ExitReason::Cancelled; // it has returned before it was told
    }
    let said = instance.with(|state| state.said.take()).filter(|said| !said.is_empty());
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
