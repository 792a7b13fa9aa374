//! The entry: from the component's export to the app's function.

use std::fmt::Display;
use std::future::Future;

use super::{Runtime, block_on};

/// Runs `app` to its end and returns the result of the export `run`: 0 on success; 1 on failure, after
/// passing the error's text to the host.
///
/// A panic passes its message to the host, then traps.
pub fn run_app<F, E>(app: impl FnOnce(Runtime) -> F) -> u32
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let runtime = Runtime::current();
    std::panic::set_hook(Box::new(move |panic| runtime.fail(&panic.to_string())));
    match block_on(app(runtime)) {
        Ok(()) => 0,
        Err(error) => {
            runtime.fail(&error.to_string());
            1
        }
    }
}
