//! [`App`]: the function that a component runs.

use std::fmt::Display;
use std::future::Future;

use crate::Session;

/// A function that [`export!`](crate::export) accepts: an `async fn(Session) -> Result<(), E>` or a plain
/// `fn(Session) -> Result<(), E>`, with an error that implements `Display`.
///
/// `K` distinguishes the two. The compiler always infers it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an app",
    label = "neither `async fn(Session) -> Result<(), E>` nor `fn(Session) -> Result<(), E>`",
    note = "an app is `pub async fn run(session: blockcast::Session) -> Result<(), blockcast::AppError>`, or the same without \
            `async`; any error that implements `Display` will do instead of `AppError`"
)]
pub trait App<K> {
    /// The app's error.
    type Error: Display;

    /// Runs the app.
    fn run(self, session: Session) -> impl Future<Output = Result<(), Self::Error>>;
}

/// Marks an `async fn` with the future `F`.
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

/// Marks a plain `fn` with the error `E`.
#[derive(Debug)]
pub struct Blocking<E>(std::marker::PhantomData<E>);

impl<A, E> App<Blocking<E>> for A
where
    A: FnOnce(Session) -> Result<(), E>,
    E: Display,
{
    type Error = E;

    async fn run(self, session: Session) -> Result<(), E> {
        self(session)
    }
}
