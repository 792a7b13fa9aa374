//! [`App`]: what a component runs.

use std::fmt::Display;
use std::future::Future;

use crate::Session;

/// What [`export!`](crate::export) accepts: an `async fn(Session) -> Result<(), E>` or a plain `fn(Session) -> Result<(), E>`
/// whose error can be displayed.
///
/// `K` tells the two kinds apart and is always found by the compiler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an app",
    label = "neither `async fn(Session) -> Result<(), E>` nor `fn(Session) -> Result<(), E>`",
    note = "an app is `pub async fn run(session: blockcast::Session) -> Result<(), blockcast::AppError>`, or the same without \
            `async`; instead of `AppError` any error that implements `Display` will do"
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

/// The kind of a plain `fn` whose error is `E`.
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
