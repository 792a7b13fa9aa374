//! [`Sending`]: a thread that sends a topic, and what it is ordered to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use blockcast_subscriber::RecvError;

use crate::error::BridgeError;

/// Go on.
pub(crate) const SEND: u8 = 0;
/// End once all publishers have left and all their messages are sent.
pub(crate) const FINISH: u8 = 1;
/// End as soon as what is there now is sent.
pub(crate) const LEAVE: u8 = 2;

/// A thread that sends. Dropping this lets it [leave](LEAVE), and waits for it.
#[derive(Debug)]
pub(crate) struct Sending {
    orders: Arc<AtomicU8>,
    thread: Option<JoinHandle<Outcome>>,
}

/// How a thread that sends has ended: as it was ordered to, or because it cannot receive the topic.
pub(crate) type Outcome = Result<(), RecvError>;

impl Sending {
    /// Starts what is made from the orders, on a thread with this name.
    pub(crate) fn start<F: FnOnce() -> Outcome + Send + 'static>(
        name: &str,
        make: impl FnOnce(Arc<AtomicU8>) -> F,
    ) -> Result<Self, BridgeError> {
        let orders = Arc::new(AtomicU8::new(SEND));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(make(Arc::clone(&orders)));
        let thread = thread.map_err(|error| BridgeError::Thread(error.to_string()))?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// Tells the thread what to do from now on. Does not wait until it does.
    pub(crate) fn order(&self, orders: u8) {
        // Ordering: Relaxed; the thread looks again.
        self.orders.store(orders, Ordering::Relaxed);
    }

    /// Whether the thread has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the thread has ended. Does not tell it to.
    pub(crate) fn join(mut self) -> Outcome {
        // After a panic, the topic is sent again, too.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(Ok(()))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.order(LEAVE);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ends all of them. They begin to leave at the same time, because each may have to wait for zenoh.
pub(crate) fn end_all(sendings: impl IntoIterator<Item = Sending>) {
    let sendings: Vec<_> = sendings.into_iter().collect();
    sendings.iter().for_each(|sending| sending.order(LEAVE));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn all_leave_at_the_same_time() {
        let (leaving, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let until = |is_true: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !is_true() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            is_true()
        };
        let start = |_| {
            let (leaving, together) = (Arc::clone(&leaving), Arc::clone(&together));
            let make = |orders: Arc<AtomicU8>| {
                move || {
                    let is_told = until(&|| orders.load(Ordering::Relaxed) == LEAVE);
                    leaving.fetch_add(usize::from(is_told), Ordering::Relaxed);
                    let all = until(&|| leaving.load(Ordering::Relaxed) == 3);
                    together.fetch_add(usize::from(all), Ordering::Relaxed);
                    Ok(())
                }
            };
            Sending::start("test", make).expect("a thread")
        };
        let sendings: Vec<_> = (0..3).map(start).collect();
        assert!(!sendings.iter().any(Sending::is_finished));
        end_all(sendings);
        assert_eq!(together.load(Ordering::Relaxed), 3, "each waited for the others");
    }
}
