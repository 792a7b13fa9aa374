//! [`Component`]: the handle on a running app, linked or guest.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use blockcast_blocks::park;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::guest::{ExitReason, GuestControl, GuestProgram, GuestReport, GuestSetup, GuestStats};

/// An app that the broker runs. Dropping the handle leaves the app running.
pub struct Component {
    name: String,
    control: Arc<GuestControl>,
    report: watch::Receiver<Option<GuestReport>>,
}

impl Component {
    pub(crate) fn native<F, E>(runtime: Handle, name: String, control: Arc<GuestControl>, app: F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let cancelled = Arc::clone(&control);
        let run = async move {
            let outcome = tokio::select! {
                outcome = AssertUnwindSafe(app).catch_unwind() => outcome,
                () = cancelled.cancelled() => return report(ExitReason::Cancelled),
            };
            report(match outcome {
                Ok(Ok(())) => ExitReason::Finished,
                Ok(Err(error)) => ExitReason::Failed(error.to_string()),
                Err(panic) => ExitReason::Trapped {
                    message: format!("panicked: {}", panic_text(&*panic)),
                    backtrace: String::new(),
                },
            })
        };
        Self::spawn(&runtime, name, control, run)
    }

    pub(crate) fn guest(
        runtime: Handle,
        name: String,
        control: Arc<GuestControl>,
        program: GuestProgram,
        setup: GuestSetup,
    ) -> Self {
        Self::spawn(&runtime, name, control, async move { program.run(setup).await })
    }

    fn spawn(
        runtime: &Handle,
        name: String,
        control: Arc<GuestControl>,
        run: impl Future<Output = GuestReport> + Send + 'static,
    ) -> Self {
        let (ended, report) = watch::channel(None);
        let log_name = name.clone();
        runtime.spawn(async move {
            let report = run.await;
            tracing::info!(component = log_name, reason = %report.reason, "component ended");
            ended.send_replace(Some(report));
        });
        Self { name, control, report }
    }

    /// Name in logs and statistics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the app to finish. A guest that goes on regardless is ended when its grace is over.
    pub fn request_shutdown(&self) {
        self.control.request_shutdown();
    }

    /// Ends the app: a guest within milliseconds, native code at its next `.await`. What it held is
    /// released.
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// How the app has ended, if it has.
    #[must_use]
    pub fn report(&self) -> Option<GuestReport> {
        self.report.borrow().clone()
    }

    /// Waits for the app's end. Can be called any number of times.
    pub async fn ended(&self) -> GuestReport {
        let mut report = self.report.clone();
        match report.wait_for(Option::is_some).await {
            Ok(report) => report.clone().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    /// Blocks the thread until the app's end. Not to be called from a task of an async runtime.
    #[must_use]
    pub fn wait(&self) -> GuestReport {
        let mut ended = std::pin::pin!(self.ended());
        park::until(None, |cx| ended.as_mut().poll(cx)).unwrap_or_else(gone)
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

/// The report of a component whose task went away with its runtime.
fn gone() -> GuestReport {
    report(ExitReason::Cancelled)
}

fn report(reason: ExitReason) -> GuestReport {
    GuestReport { reason, stats: GuestStats::default() }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
