//! [`Session`]: what an app is given, linked into the program or loaded natively.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use blockcast_blocks::{OpenError, Payload, Timestamp};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};

use crate::broker::Shared;
use crate::grants::Grants;
use crate::guest::{GuestControl, Level, LogSink};

/// An app's way to its topics, parameters, log and clock. The same methods exist inside of a guest, so that
/// one source serves both.
pub struct Session {
    name: String,
    shared: Arc<Shared>,
    grants: Grants,
    parameters: BTreeMap<String, String>,
    control: Arc<GuestControl>,
    log: Option<LogSink>,
}

impl Session {
    pub(crate) fn new(
        name: String,
        shared: Arc<Shared>,
        grants: Grants,
        parameters: BTreeMap<String, String>,
        control: Arc<GuestControl>,
        log: Option<LogSink>,
    ) -> Self {
        Self { name, shared, grants, parameters, control, log }
    }

    /// The value that whoever started the app gave for `name`, if any.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.get(name).cloned()
    }

    /// Opens a topic for publishing.
    ///
    /// # Errors
    /// [`OpenError`].
    #[expect(clippy::unused_async, reason = "in a guest the same call may wait")]
    pub async fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.grants.may_publish(topic)?;
        self.shared.publisher(&self.name, topic, options, None)
    }

    /// Opens a topic for subscribing.
    ///
    /// # Errors
    /// [`OpenError`].
    #[expect(clippy::unused_async, reason = "in a guest the same call may wait")]
    pub async fn subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.grants.may_subscribe(topic)?;
        self.shared.subscriber(&self.name, topic, options)
    }

    /// Writes a line to the app's log.
    pub fn log(&self, level: Level, text: &str) {
        match &self.log {
            Some(log) => log(level, text),
            None => trace(&self.name, level, text),
        }
    }

    /// The time, on the clock of the message times.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Whether the app is asked to finish. Once true it stays true.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        self.control.is_shutdown_requested()
    }

    /// Waits until the app is asked to finish.
    pub async fn shutdown(&self) {
        self.control.shutdown().await;
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.name)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// A component's log line as a `tracing` event.
pub(crate) fn trace(component: &str, level: Level, text: &str) {
    match level {
        Level::Error => tracing::error!(component, "{text}"),
        Level::Warn => tracing::warn!(component, "{text}"),
        Level::Info => tracing::info!(component, "{text}"),
        Level::Debug => tracing::debug!(component, "{text}"),
        Level::Trace => tracing::trace!(component, "{text}"),
    }
}
