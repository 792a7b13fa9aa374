//! A future that completes at a time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::reactor::{self, TimerKey};
use crate::units::Timestamp;

/// Completes when its time has come; see [`sleep`]. Dropping it cancels it.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: Timestamp,
    registered: Option<TimerKey>,
}

/// Completes after `duration`.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(reactor::after(duration))
}

/// Completes when the clock of the message times reaches `deadline`.
pub fn sleep_until(deadline: Timestamp) -> Sleep {
    Sleep { deadline, registered: None }
}

impl Sleep {
    fn unregister(&mut self) {
        if let Some(key) = self.registered.take() {
            reactor::forget(key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if reactor::now() >= self.deadline {
            self.unregister();
            return Poll::Ready(());
        }
        // Anew on every poll: the task may have changed.
        self.unregister();
        self.registered = Some(reactor::wake_at(self.deadline, context.waker()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unregister();
    }
}
