//! An app's interface to Blockcast: [`Session`], the same in every deployment.
//!
//! An app opens its topics, reads its parameters, writes its log and tells the time through a session. Apps
//! do not depend on this crate: `blockcast` has an alias `Session` that stands for the session of the
//! deployment they are built for.
//!
//! ```text
//!   app ──▶ Session<H> ──▶ H: SessionHost ──┬─ linked into the program    (blockcast-broker)
//!           one API                         └─ wasm guest, native library (blockcast)
//! ```

use std::fmt;
use std::future::Future;
use std::time::Duration;

use blockcast_blocks::{OpenError, Payload, Timestamp};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};

/// A deployment's side of a [`Session`]. Each method serves the session's method of the same name.
pub trait SessionHost {
    /// Importance of a log line.
    type Level;

    /// Completes at a time. Dropping it cancels it.
    type Sleep: Future<Output = ()>;

    /// See [`Session::parameter`].
    fn parameter(&self, name: &str) -> Option<String>;

    /// See [`Session::blocking_publisher`].
    ///
    /// # Errors
    /// [`OpenError`].
    fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError>;

    /// See [`Session::blocking_subscriber`].
    ///
    /// # Errors
    /// [`OpenError`].
    fn subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError>;

    /// See [`Session::log`].
    fn log(&self, level: Self::Level, text: &str);

    /// See [`Session::now`].
    fn now(&self) -> Timestamp;

    /// See [`Session::sleep`].
    fn sleep(&self, duration: Duration) -> Self::Sleep;

    /// See [`Session::blocking_sleep`].
    fn blocking_sleep(&self, duration: Duration) {
        self.block_on(self.sleep(duration));
    }

    /// See [`Session::shutdown_requested`].
    fn shutdown_requested(&self) -> bool;

    /// See [`Session::shutdown`].
    fn shutdown(&self) -> impl Future<Output = ()>;

    /// See [`Session::block_on`].
    fn block_on<F: Future>(&self, future: F) -> F::Output;
}

/// Gives an app its topics, parameters, log and clock.
///
/// Methods with plain names are `async`. The methods that begin with `blocking_` block the thread and are
/// meant for apps that are a plain `fn`. Such apps run any other future with [`block_on`](Self::block_on). In
/// an `async fn`, blocking calls keep the thread from other tasks; a wasm guest has only one thread.
pub struct Session<H>(H);

impl<H: SessionHost> Session<H> {
    /// Creates the session of an app that `host` runs.
    pub const fn new(host: H) -> Self {
        Self(host)
    }

    /// Returns the value of the parameter `name` that the app was started with, if any.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.0.parameter(name)
    }

    /// Opens a topic for publishing messages of layout `P`, and creates the topic if it does not exist.
    ///
    /// # Errors
    /// [`OpenError`]: the topic was not granted, its schema differs, or a limit is reached.
    pub async fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.0.publisher(topic, options)
    }

    /// Like [`publisher`](Self::publisher), but blocks the thread.
    ///
    /// # Errors
    /// The same as for [`publisher`](Self::publisher).
    pub fn blocking_publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.0.publisher(topic, options)
    }

    /// Subscribes to a topic whose messages have layout `P`, and creates the topic if it does not exist.
    ///
    /// # Errors
    /// [`OpenError`]: the topic was not granted, its schema differs, or a limit is reached.
    pub async fn subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.0.subscriber(topic, options)
    }

    /// Like [`subscriber`](Self::subscriber), but blocks the thread.
    ///
    /// # Errors
    /// The same as for [`subscriber`](Self::subscriber).
    pub fn blocking_subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.0.subscriber(topic, options)
    }

    /// Writes a line to the app's log.
    pub fn log(&self, level: H::Level, text: &str) {
        self.0.log(level, text);
    }

    /// Returns the current time, on the clock that message timestamps use.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Returns a future that completes after `duration`, counted from now. A duration that exceeds the
    /// clock's range ends in the far future. In a forked child it completes at once, since the timer belongs
    /// to the parent.
    pub fn sleep(&self, duration: Duration) -> H::Sleep {
        self.0.sleep(duration)
    }

    /// Blocks the thread for `duration`.
    pub fn blocking_sleep(&self, duration: Duration) {
        self.0.blocking_sleep(duration);
    }

    /// Returns `true` once the app has been asked to finish, and stays `true`. Also `true` in a forked child.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        self.0.shutdown_requested()
    }

    /// Waits until the app is asked to finish. In a forked child it returns at once.
    pub async fn shutdown(&self) {
        self.0.shutdown().await;
    }

    /// Like [`shutdown`](Self::shutdown), but blocks the thread.
    pub fn blocking_shutdown(&self) {
        self.block_on(self.shutdown());
    }

    /// Runs `future` to completion and blocks the thread while it waits. With this, an app that is a plain
    /// `fn` can wait for several things at once. If the app is cancelled meanwhile, the call does not return:
    /// the stack is unwound, or, in a wasm guest, the guest ends.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }
}

impl<H: fmt::Debug> fmt::Debug for Session<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.0).finish()
    }
}
