//! [`Sending`]: a thread that sends a topic, and what it is ordered to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

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
    thread: Option<JoinHandle<()>>,
}

impl Sending {
    /// Starts what is made from the orders, on a thread with this name.
    pub(crate) fn start<F: FnOnce() + Send + 'static>(
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
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.order(LEAVE);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
