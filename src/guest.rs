//! An app's session inside of a wasm guest. Natively the broker provides the same.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use blockcast_blocks::guest::bindings::blockcast::blocks::types::Error as Code;
use blockcast_blocks::guest::{self, HostError, Subscription, WriterOptions};
use blockcast_blocks::{OpenError, Payload, Timestamp, Writer};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};

pub use blockcast_blocks::guest::session::Level;
pub use blockcast_blocks::guest::{Sleep, bindings};

/// What an app is given: topics to open, parameters, time, a log.
#[derive(Debug)]
pub struct Session(());

impl Session {
    /// The value that whoever started the app gave for `name`, if any.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        guest::session::parameter(name)
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
        OpenError::check_name(topic)?;
        let schema = P::schema();
        let options = WriterOptions {
            block_size: u32::try_from(options.get_block_size()).unwrap_or(u32::MAX),
            blocks: options.get_blocks(),
            history: options.get_history(),
        };
        let writer = Writer::open(topic, &schema, options)
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
        OpenError::check_name(topic)?;
        let schema = P::schema();
        Subscription::open(topic, &schema, options.reader())
            // SAFETY: the host has compared the schema with the topic's, and does so for every publisher.
            .map(|subscription| unsafe { Subscriber::new(subscription) })
            .map_err(|error| refused(error, "subscribe", topic, &schema))
    }

    /// Writes a line to the app's log.
    pub fn log(&self, level: Level, text: &str) {
        guest::session::log(level, text);
    }

    /// The time on the clock of the message times.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        guest::now()
    }

    /// Completes after `duration`.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        guest::sleep(duration)
    }

    /// Whether the app is asked to finish.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        guest::session::shutdown_requested()
    }

    /// Completes when the app is asked to finish.
    pub async fn shutdown(&self) {
        guest::shutdown().await;
    }
}

fn refused(
    error: HostError,
    access: &'static str,
    topic: &str,
    asked: &blockcast_blocks::Schema,
) -> OpenError {
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
#[doc(hidden)]
pub fn start<A, F, E>(app: A) -> u32
where
    A: FnOnce(Session) -> F,
    F: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    guest::run_app(app(Session(())))
}
