//! [`App`]: what a component runs.

use std::fmt::Display;
use std::future::Future;

use crate::Session;

/// What [`export!`](crate::export) accepts: an `async fn(Session) -> Result<(), E>` whose error can be displayed.
///
/// `K` tells kinds of functions apart and is always found by the compiler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an app",
    label = "not of the form `async fn(Session) -> Result<(), E>`",
    note = "an app is `pub async fn run(session: blockcast::Session) -> Result<(), blockcast::AppError>`; \
            instead of `AppError` any error that implements `Display` will do"
)]
pub trait App<K> {
    /// Why it fails.
    type Error: Display;

    /// Runs it.
    fn run(self, session: Session) -> impl Future<Output = Result<(), Self::Error>>;
}

/// The kind of an `async fn` whose future is `F`.
#[derive(Debug)]
pub struct Async<F>(std::marker::PhantomData<F>);

impl<A, F, E> App<Async<F>> for A
where
    A: FnOnce(Session) -> F,
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    type Error = E;

    fn run(self, session: Session) -> impl Future<Output = Result<(), E>> {
        self(session)
    }
}
