//! The entry: from the table's `run` to the app's function.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cancel;
use super::executor::block_on;
use super::runtime::Runtime;
use super::types::Level;
use crate::abi::{Host, RUN_CANCELLED, RUN_FAILED, RUN_FINISHED, RUN_PANICKED, RUN_REFUSED};

thread_local! {
    /// Whether this is the thread of `run`.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    /// The latest message of the panic hook on this thread.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `app` to its end and returns the result of the table's `run`. Passes the text of an error or a panic
/// to the host. Never unwinds.
///
/// A component only runs once at a time: a second run is refused.
///
/// # Safety
/// `host` is what the host has called `run` with: null or its table, whose functions and context stay valid
/// until the library is closed.
pub unsafe fn run_app<F, E>(host: *const Host, app: impl FnOnce(Runtime) -> F) -> u32
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    // SAFETY: as the caller promises.
    let Ok(host) = (unsafe { Host::read(host) }) else {
        return RUN_REFUSED;
    };
    let Some(runtime) = Runtime::enter(host) else {
        // SAFETY: the table was checked; the text is valid for the call.
        unsafe { (host.fail)(host.context, crate::abi::Text::of("it runs already")) };
        return RUN_REFUSED;
    };
    RUNS.set(true);
    set_panic_hook();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let result = block_on(app(runtime.clone()));
        // Inside of `catch_unwind`: formatting an error runs the app's code too.
        result.map_err(|error| runtime.fail(&error.to_string()))
    }));
    let status = match result {
        Ok(Ok(())) => RUN_FINISHED,
        Ok(Err(())) => RUN_FAILED,
        Err(payload) if cancel::is_cancelled(&*payload) => RUN_CANCELLED,
        Err(payload) => {
            runtime.fail(&panic_text(&*payload));
            forget(payload);
            RUN_PANICKED
        }
    };
    RUNS.set(false);
    runtime.leave();
    status
}

/// A panic's text goes to the host, not to the process's output: that of the thread of `run` when it has
/// ended the app, that of another thread at once, to the log.
fn set_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        if RUNS.get() {
            PANIC.with_borrow_mut(|last| *last = text);
        } else {
            Runtime::current().log(Level::Error, &text);
        }
    }));
}

/// The hook's message, or the payload if it is a text and the app has set another hook.
fn panic_text(payload: &(dyn Any + Send)) -> String {
    let told = PANIC.with_borrow_mut(std::mem::take);
    if !told.is_empty() {
        return told;
    }
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("(no text)"))
}

/// Drops a panic's payload, which may panic itself.
fn forget(payload: Box<dyn Any + Send>) {
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(next);
    }
}
