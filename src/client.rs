//! The [`Session`] of an app in a wasm guest or a native library. For linked apps, the broker provides the
//! session.

use std::future::Future;
use std::time::Duration;

use blockcast_blocks::client::{Error as Code, HostError, Runtime, Subscription, block_on};
use blockcast_blocks::{OpenError, Payload, Schema, Timestamp, Writer};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_session::SessionHost;
use blockcast_subscriber::{Subscriber, SubscriberOptions};

#[cfg(not(target_family = "wasm"))]
pub use blockcast_blocks::abi;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use blockcast_blocks::client::export;
pub use blockcast_blocks::client::{Level, Sleep};

/// Gives an app its topics, parameters, log and clock. Linked apps have a session with the
/// same methods, so that one source serves all deployments.
pub type Session = blockcast_session::Session<ClientHost>;

/// The client's side of a [`Session`]: calls the host that runs the component.
#[derive(Debug)]
pub struct ClientHost(Runtime);

impl SessionHost for ClientHost {
    type Level = Level;
    type Sleep = Sleep;

    fn parameter(&self, name: &str) -> Option<String> {
        self.0.parameter(name)
    }

    fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        OpenError::check_name(topic)?;
        let schema = P::schema();
        let writer = Writer::open(&self.0, topic, &schema, options.writer(), options.get_name())
            .map_err(|error| refused(error, "publish", topic, &schema))?;
        Publisher::new(writer).map_err(|misfit| OpenError::Refused(misfit.to_string()))
    }

    fn subscriber<P: Payload>(
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

    fn log(&self, level: Level, text: &str) {
        self.0.log(level, text);
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration)
    }

    fn shutdown_requested(&self) -> bool {
        self.0.shutdown_requested()
    }

    async fn shutdown(&self) {
        self.0.shutdown().await;
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
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

/// Runs the app of a wasm guest. The guest's export, which [`export!`](crate::export) defines, calls this.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn start<K>(app: impl crate::App<K>) -> u32 {
    blockcast_blocks::client::run_app(|runtime| app.run(Session::new(ClientHost(runtime))))
}

/// Runs the app of a native library. The library's table, which [`export!`](crate::export) defines, calls
/// this.
///
/// # Safety
/// `host` is the argument with which the host called `run`: null, or its table, whose functions and context
/// stay valid until the library is closed.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub unsafe fn start<K>(host: *const abi::Host, app: impl crate::App<K>) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { blockcast_blocks::client::run_app(host, |runtime| app.run(Session::new(ClientHost(runtime)))) }
}
