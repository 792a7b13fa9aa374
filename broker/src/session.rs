//! [`Session`] of a linked app: [`LinkedHost`] is the broker's side of it, [`Sleep`] its timer.

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
use blockcast_session::SessionHost;
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use tokio::runtime::Handle;

use crate::component::cancellation::ComponentControl;
use crate::component::handle::ComponentOptions;
use crate::control::expectation::RestartExpectation;
use crate::control::grants::Grants;
use crate::control::shared::Shared;
use crate::hosting::log::{LogSink, line};

/// Gives an app its topics, parameters, log and clock. Guests and native libraries have a
/// session with the same methods, so that one source serves all deployments.
pub type Session = blockcast_session::Session<LinkedHost>;

/// The broker's side of the [`Session`] of an app that is linked into the program.
pub struct LinkedHost {
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

impl LinkedHost {
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
}

impl SessionHost for LinkedHost {
    type Level = Level;
    type Sleep = Sleep;

    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.get(name).cloned()
    }

    fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.grants.may_publish(topic)?;
        self.shared.publisher(&self.name, topic, options, None, Some(&self.expectation))
    }

    fn subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.grants.may_subscribe(topic)?;
        let await_restarts = self.await_restarts || options.get_await_restarts();
        self.shared.subscriber(&self.name, topic, options, await_restarts)
    }

    fn log(&self, level: Level, text: &str) {
        match &self.log {
            Some(log) => log(level, &line(text)),
            None => trace(&self.name, level, &line(text)),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        if self.shared.is_inherited() {
            return Sleep { timer: None, is_lost: false, process: Process::current() };
        }
        // The calling thread may not be one of the runtime's.
        let _runtime = self.runtime.enter();
        let timer = Some(Box::pin(tokio::time::sleep(duration)));
        Sleep { timer, is_lost: false, process: Process::current() }
    }

    fn blocking_sleep(&self, duration: Duration) {
        if self.shared.is_inherited() {
            std::thread::sleep(duration);
            return;
        }
        self.block_on(self.sleep(duration));
    }

    fn shutdown_requested(&self) -> bool {
        self.shared.is_inherited() || self.control.is_shutdown_requested()
    }

    async fn shutdown(&self) {
        if self.shared.is_inherited() {
            return;
        }
        self.control.shutdown().await;
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        park::block_on(future)
    }
}

/// Completes at a time; see [`Session::sleep`](blockcast_session::Session::sleep). Dropping it cancels it.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// The timer's runtime has been shut down.
    is_lost: bool,
    process: Process,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let is_current = self.process.is_current();
        let Self { timer, is_lost, .. } = &mut *self;
        let Some(timer) = timer.as_mut().filter(|_| is_current) else { return Poll::Ready(()) };
        // The runtime keeps the waker and wakes it on one of its own threads.
        let waker = shielded_waker(context.waker());
        if !*is_lost {
            let mut own = Context::from_waker(&waker);
            // A timer panics if its runtime has been shut down, but an app on a thread of its own may still
            // be running.
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
            // A thread of the parent may have held the timer's lock during the fork.
            std::mem::forget(self.timer.take());
        }
    }
}

impl fmt::Debug for LinkedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkedHost")
            .field("name", &self.name)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// Emits a component's log line as a `tracing` event.
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
    fn a_sleep_counts_from_its_creation_not_from_its_first_poll() {
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

    #[test]
    fn a_blocking_shutdown_returns_once_the_app_is_asked_to_finish() {
        let broker = Broker::new();
        let app = broker.run("waiter", Grants::new(), [], |session: Session| {
            session.blocking_shutdown();
            if session.shutdown_requested() { Ok(()) } else { Err("not asked") }
        });
        let app = app.unwrap();
        assert!(app.report().is_none(), "it waits");
        app.request_shutdown();
        assert_eq!(app.wait().reason, crate::ExitReason::Finished);
    }
}
