//! An app's session in a wasm guest and in a shared library. Where an app is linked into the broker's program the broker provides
//! the same.

use std::future::Future;
use std::time::Duration;

use blockcast_blocks::client::{Error as Code, HostError, Runtime, Subscription, block_on};
use blockcast_blocks::{OpenError, Payload, Schema, Timestamp, Writer};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};

#[cfg(not(target_family = "wasm"))]
pub use blockcast_blocks::abi;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use blockcast_blocks::client::export;
pub use blockcast_blocks::client::{Level, Sleep};

/// What an app is given: topics to open, parameters, time, a log.
///
/// Plain names are `async`; those that begin with `blocking_` block the thread (a guest has one) and are for apps that are a plain `fn`,
/// which [`block_on`](Self::block_on) all others.
#[derive(Debug)]
pub struct Session(Runtime);

impl Session {
    /// The value that whoever started the app gave for `name`, if any.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.0.parameter(name)
    }

    /// Joins `topic` as a publisher of messages of layout `P`.
    ///
    /// # Errors
    /// [`OpenError`]: not granted, another schema, a limit.
    pub async fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.blocking_publisher(topic, options)
    }

    /// As [`publisher`](Self::publisher), blocking the thread where that waits.
    ///
    /// # Errors
    /// [`OpenError`]: not granted, another schema, a limit.
    pub fn blocking_publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        OpenError::check_name(topic)?;
        let schema = P::schema();
        let writer = Writer::open(&self.0, topic, &schema, &options.writer())
            .map_err(|error| refused(error, "publish", topic, &schema))?;
        Publisher::new(writer).map_err(|misfit| OpenError::Refused(misfit.to_string()))
    }

    /// Subscribes to `topic`, whose messages have layout `P`.
    ///
    /// # Errors
    /// [`OpenError`]: not granted, another schema, a limit.
    pub async fn subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.blocking_subscriber(topic, options)
    }

    /// As [`subscriber`](Self::subscriber), blocking the thread where that waits.
    ///
    /// # Errors
    /// [`OpenError`]: not granted, another schema, a limit.
    pub fn blocking_subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        OpenError::check_name(topic)?;
        let schema = P::schema();
        Subscription::open(&self.0, topic, &schema, options.reader(), options.get_name())
            // SAFETY: the host has compared the schema with the topic's, and does so for every publisher.
            .map(|subscription| unsafe { Subscriber::new(subscription) })
            .map_err(|error| refused(error, "subscribe", topic, &schema))
    }

    /// Writes a line to the app's log.
    pub fn log(&self, level: Level, text: &str) {
        self.0.log(level, text);
    }

    /// The time on the clock of the message times.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Completes `duration` from now; in the far future where that exceeds the clock.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration)
    }

    /// Blocks the thread for `duration`.
    pub fn blocking_sleep(&self, duration: Duration) {
        self.block_on(self.sleep(duration));
    }

    /// Drives `future` to its end, blocking the thread while it waits: how an app that is a plain `fn` waits for several things at once,
    /// or for [the shutdown](Self::shutdown). When the app is cancelled meanwhile, this does not return.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }

    /// Whether the app is asked to finish.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        self.0.shutdown_requested()
    }

    /// Completes when the app is asked to finish.
    pub async fn shutdown(&self) {
        self.0.shutdown().await;
    }
}

fn refused(error: HostError, access: &'static str, topic: &str, asked: &Schema) -> OpenError {
    match error.code() {
        Code::Denied => OpenError::Denied { access, topic: topic.to_owned() },
        Code::Closed => OpenError::Closed,
        Code::SchemaMismatch => {
            OpenError::SchemaMismatch { topic: topic.to_owned(), existing: None, asked: asked.clone() }
        }
        _ => OpenError::Refused(format!("{access} {topic:?}: {error}")),
    }
}

/// What the component's `run` does; called by what [`export!`](crate::export) makes.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn start<K>(app: impl crate::App<K>) -> u32 {
    blockcast_blocks::client::run_app(|runtime| app.run(Session(runtime)))
}

/// What the table's `run` does; called by what [`export!`](crate::export) makes.
///
/// # Safety
/// `host` is what the host has called `run` with: null or its table, whose functions and context stay valid until the library is
/// closed.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub unsafe fn start<K>(host: *const abi::Host, app: impl crate::App<K>) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { blockcast_blocks::client::run_app(host, |runtime| app.run(Session(runtime))) }
}
