//! [`Session`]: what an app is given, linked into the program or loaded natively.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use blockcast_blocks::abi::Level;
use blockcast_blocks::shield::{shielded, shielded_waker};
use blockcast_blocks::{OpenError, Payload, Process, Timestamp, park};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use tokio::runtime::Handle;

use crate::component::cancellation::ComponentControl;
use crate::component::handle::ComponentOptions;
use crate::control::expectation::RestartExpectation;
use crate::control::grants::Grants;
use crate::control::shared::Shared;
use crate::hosting::log::{LogSink, line};

/// An app's way to its topics, parameters, log and clock. The same methods exist inside of a guest, so that
/// one source serves both.
///
/// Plain names are `async`; those that begin with `blocking_` block the thread and are for apps that are a plain `fn`, which
/// [`block_on`](Self::block_on) all others. In an `async fn` they keep a thread from the tasks that share it.
pub struct Session {
    name: String,
    shared: Arc<Shared>,
    grants: Grants,
    parameters: BTreeMap<String, String>,
    control: Arc<ComponentControl>,
    log: Option<LogSink>,
    runtime: Handle,
    expectation: Arc<RestartExpectation>,
    await_restarts: bool,
}

impl Session {
    pub(crate) fn new(
        name: String,
        shared: Arc<Shared>,
        options: ComponentOptions,
        control: Arc<ComponentControl>,
        runtime: Handle,
        expectation: Arc<RestartExpectation>,
    ) -> Self {
        let ComponentOptions { grants, parameters, log, await_restarts, .. } = options;
        Self { name, shared, grants, parameters, control, log, runtime, expectation, await_restarts }
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
        self.blocking_publisher(topic, options)
    }

    /// As [`publisher`](Self::publisher), blocking the thread where that waits.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn blocking_publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.grants.may_publish(topic)?;
        self.shared.publisher(&self.name, topic, options, None, Some(&self.expectation))
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
        self.blocking_subscriber(topic, options)
    }

    /// As [`subscriber`](Self::subscriber), blocking the thread where that waits.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn blocking_subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.grants.may_subscribe(topic)?;
        let await_restarts = self.await_restarts || options.get_await_restarts();
        self.shared.subscriber(&self.name, topic, options, await_restarts)
    }

    /// Writes a line to the app's log.
    pub fn log(&self, level: Level, text: &str) {
        match &self.log {
            Some(log) => log(level, &line(text)),
            None => trace(&self.name, level, &line(text)),
        }
    }

    /// The time, on the clock of the message times.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Whether the app is asked to finish. Once true it stays true. It is in a child that the app has forked.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        self.shared.is_inherited() || self.control.is_shutdown_requested()
    }

    /// Waits until the app is asked to finish.
    pub async fn shutdown(&self) {
        if self.shared.is_inherited() {
            return;
        }
        self.control.shutdown().await;
    }

    /// Completes `duration` from now; in the far future where that exceeds the clock. In a child that the app has forked it
    /// completes at once, as the timer is the parent's.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        if self.shared.is_inherited() {
            return Sleep { timer: None, is_lost: false, process: Process::current() };
        }
        // Also for threads that know of no runtime.
        let _runtime = self.runtime.enter();
        let timer = Some(Box::pin(tokio::time::sleep(duration)));
        Sleep { timer, is_lost: false, process: Process::current() }
    }

    /// Blocks the thread for `duration`.
    pub fn blocking_sleep(&self, duration: Duration) {
        if self.shared.is_inherited() {
            std::thread::sleep(duration);
            return;
        }
        self.block_on(self.sleep(duration));
    }

    /// Drives `future` to its end, blocking the thread while it waits: how an app that is a plain `fn` waits for several things at once, or for
    /// [the shutdown](Self::shutdown). When the app is cancelled meanwhile, this does not return: see
    /// [`Broker::run`](crate::Broker::run).
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        park::block_on(future)
    }
}

/// Completes when its time has come; see [`Session::sleep`]. Dropping it cancels it.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// The runtime of the timer was shut down.
    is_lost: bool,
    process: Process,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let is_current = self.process.is_current();
        let Self { timer, is_lost, .. } = &mut *self;
        let Some(timer) = timer.as_mut().filter(|_| is_current) else { return Poll::Ready(()) };
        // The runtime keeps the waker and wakes it on a thread of its own.
        let waker = shielded_waker(context.waker());
        if !*is_lost {
            let mut own = Context::from_waker(&waker);
            // A timer panics if its runtime was shut down. An app on a thread of its own may go on nevertheless.
            match shielded(|| timer.as_mut().poll(&mut own)) {
                Ok(polled) => return polled,
                Err(_) => *is_lost = true,
            }
        }
        let left = timer.deadline().into_std().saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Poll::Ready(());
        }
        let sleep = move || {
            std::thread::sleep(left);
            waker.wake();
        };
        match std::thread::Builder::new().spawn(sleep) {
            Ok(_) => Poll::Pending,
            Err(_) => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // A thread of the parent may have had the timer's lock.
            std::mem::forget(self.timer.take());
        }
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::Broker;

    #[test]
    fn a_sleep_ends_its_duration_after_it_was_asked_for_whenever_it_is_polled_first() {
        let broker = Broker::new();
        let app = broker.run("sleeper", Grants::new(), [], |session: Session| {
            let duration = Duration::from_millis(20);
            let earliest = Instant::now() + duration;
            let sleep = session.sleep(duration);
            let latest = Instant::now() + duration;
            std::thread::sleep(duration);
            let deadline = sleep.timer.as_ref().expect("a timer").deadline();
            if !(earliest..=latest).contains(&deadline) {
                return Err(format!("{deadline:?} is not within {earliest:?} and {latest:?}"));
            }
            session.block_on(sleep);
            if Instant::now() < deadline { Err("early".to_owned()) } else { Ok(()) }
        });
        assert_eq!(app.unwrap().wait().reason, crate::ExitReason::Finished);
    }
}
