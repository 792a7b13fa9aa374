//! Runs an app that is linked into the program: an `async fn` as a task, a plain `fn` on a thread of its own.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use blockcast_blocks::park::{Cancellation, Left};
use blockcast_blocks::shield::{Panicked, Shielded, shielded};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::component::cancellation::ComponentControl;
use crate::component::exit::{ComponentReport, ExitReason};
use crate::component::stats::ComponentStats;
use crate::host::library::STACK;
use crate::hosting::log::line;
use crate::session::Session;

/// What a linked app returns: an `async fn` returns a future of a `Result`, a plain `fn` returns the
/// `Result`. Any error type that implements `Display` will do.
///
/// `K` distinguishes the two. The compiler always infers it.
#[diagnostic::on_unimplemented(
    message = "an app does not return `{Self}`",
    label = "this is not an app",
    note = "an app is `async fn(Session) -> Result<(), E>` or `fn(Session) -> Result<(), E>`, where `E` is any error that \
            implements `Display`; whatever an `async fn` holds across `.await`, and a plain `fn` captures, must be `Send`"
)]
pub trait AppOutcome<K>: Sized {
    /// Runs, once, an app that returns this.
    #[doc(hidden)]
    fn run<A>(app: A, launch: Launch) -> BoxFuture<'static, ComponentReport>
    where
        A: FnOnce(Session) -> Self + Send + 'static;
}

/// Marks an `async fn`.
#[derive(Debug)]
pub enum Async {}

/// Marks a plain `fn`.
#[derive(Debug)]
pub enum Blocking {}

/// The inputs of a run.
#[derive(Debug)]
#[doc(hidden)]
pub struct Launch {
    pub(crate) name: String,
    pub(crate) session: Session,
    pub(crate) control: Arc<ComponentControl>,
    /// How long to wait for its end after it was cancelled.
    pub(crate) grace: Duration,
    pub(crate) runtime: Handle,
}

impl<F, E> AppOutcome<Async> for F
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + 'static,
{
    fn run<A>(app: A, launch: Launch) -> BoxFuture<'static, ComponentReport>
    where
        A: FnOnce(Session) -> Self + Send + 'static,
    {
        run_task(app, launch).boxed()
    }
}

impl<E: Display + 'static> AppOutcome<Blocking> for Result<(), E> {
    fn run<A>(app: A, launch: Launch) -> BoxFuture<'static, ComponentReport>
    where
        A: FnOnce(Session) -> Self + Send + 'static,
    {
        run_thread(app, launch).boxed()
    }
}

async fn run_task<A, F, E>(app: A, launch: Launch) -> ComponentReport
where
    A: FnOnce(Session) -> F,
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let Launch { session, control, .. } = launch;
    // The app ends if it panics while it is started, polled or dropped.
    let started = shielded(move || Shielded::new(Box::pin(app(session))));
    let mut app = match started {
        Ok(app) => app,
        Err(panic) => return report(panicked(&panic)),
    };
    let outcome = tokio::select! {
        outcome = AssertUnwindSafe(app.as_mut()).catch_unwind() => Some(outcome.map_err(Panicked::new)),
        () = control.cancelled() => None,
    };
    let dropped = app.discard();
    report(match (outcome, dropped) {
        (Some(Err(panic)), _) => panicked(&panic),
        (outcome, Err(panic)) => {
            drop(outcome.map(Shielded::new));
            panicked(&panic)
        }
        (Some(Ok(result)), Ok(())) => returned(result),
        (None, Ok(())) => ExitReason::Cancelled,
    })
}

/// When the future completes, everything that the app held is released, unless the app was cancelled and has
/// not returned. Dropping the future cancels the app.
async fn run_thread<A, E>(app: A, launch: Launch) -> ComponentReport
where
    A: FnOnce(Session) -> Result<(), E> + Send + 'static,
    E: Display,
{
    let Launch { name, session, control, grace, runtime } = launch;
    let cancellation = CancelOnDrop(Cancellation::new());
    let (sender, mut ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name).stack_size(STACK).spawn({
        let cancellation = cancellation.0.clone();
        move || {
            let _runtime = runtime.enter();
            // Evaluated inside, since formatting the error runs the app's code, too.
            let reason = match cancellation.run(move || returned(app(session))) {
                Ok(reason) => reason,
                Err(Left::Cancelled) => ExitReason::Cancelled,
                Err(Left::Panicked(panic)) => panicked(&Panicked::new(panic)),
            };
            // Fails if the app was abandoned.
            let _ = sender.send(reason);
        }
    });
    if let Err(error) = thread {
        return report(ExitReason::NotStarted(format!("cannot start a thread: {error}")));
    }
    tokio::select! {
        biased;
        reason = &mut ended => return report(reason.unwrap_or_else(|_| lost())),
        () = control.cancelled() => {}
    }
    cancellation.0.cancel();
    report(match tokio::time::timeout(grace, ended).await {
        // It was cancelled, regardless of its result.
        Ok(Ok(_)) => ExitReason::Cancelled,
        Ok(Err(_)) => lost(),
        Err(_) => ExitReason::Abandoned(ExitReason::Cancelled.to_string()),
    })
}

/// Cancels a run when nobody waits for it any more.
struct CancelOnDrop(Cancellation);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn returned<E: Display>(result: Result<(), E>) -> ExitReason {
    let reason = shielded(move || match result {
        Ok(()) => ExitReason::Finished,
        Err(error) => ExitReason::Failed(line(&error.to_string()).into_owned()),
    });
    reason.unwrap_or_else(|panic| panicked(&panic))
}

fn panicked(panic: &Panicked) -> ExitReason {
    ExitReason::Trapped { message: line(&panic.to_string()).into_owned(), backtrace: String::new() }
}

/// The exit reason of a component whose thread ended abnormally.
fn lost() -> ExitReason {
    ExitReason::HostPanicked("has lost its thread".to_owned())
}

fn report(reason: ExitReason) -> ComponentReport {
    ComponentReport { reason, stats: ComponentStats::default() }
}
