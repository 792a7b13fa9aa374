//! A future that completes at a time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::host::Runtime;
use super::reactor::TimerKey;
use crate::units::Timestamp;

/// Completes at its deadline; see [`Runtime::sleep`]. Dropping it cancels it.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    runtime: Runtime,
    deadline: Timestamp,
    registered: Option<TimerKey>,
}

impl Runtime {
    /// Completes after `duration`, or in the far future if that exceeds the clock.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until(Timestamp::from_nanos(self.now().as_nanos().saturating_add(nanos)))
    }

    /// Completes when the clock of the message times reaches `deadline`.
    pub fn sleep_until(&self, deadline: Timestamp) -> Sleep {
        Sleep { runtime: self.clone(), deadline, registered: None }
    }
}

impl Sleep {
    fn unregister(&mut self) {
        if let Some(key) = self.registered.take() {
            // Dropped when nothing is borrowed any more.
            let _waker = self.runtime.with_reactor(|reactor| reactor.forget(key));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Register anew on every poll: the task may have changed.
        self.unregister();
        if self.runtime.now() >= self.deadline {
            return Poll::Ready(());
        }
        self.registered = Some(self.runtime.wake_at(self.deadline, context.waker()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unregister();
    }
}
