//! Calls into user code: wakers, tracing layers, log sinks, validators, destructors.
//!
//! Such code may panic, and it may call back. So a caller that acts on behalf of others holds no lock and
//! uses [`shielded()`]. Then a panic does not reach a bystander, and is not a second panic in a destructor,
//! which would abort the process.

use std::any::Any;
use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

/// User code panicked, with this message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(String);

impl Panicked {
    /// Extracts the message from the payload of a panic.
    #[must_use]
    pub fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("without a message").to_owned();
        // The payload is user code too, and so is whatever its destructor panics with.
        if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(next);
        }
        Self(message)
    }
}

/// Calls user code.
///
/// # Errors
/// [`Panicked`] if it panics.
pub fn shielded<R>(code: impl FnOnce() -> R) -> Result<R, Panicked> {
    // A model must see the panics of its own threads.
    #[cfg(loom)]
    return Ok(code());
    #[cfg(not(loom))]
    catch_unwind(AssertUnwindSafe(code)).map_err(Panicked::new)
}

/// Emits a `tracing` event. The layers that see it are user code.
pub fn event(emit: impl FnOnce()) {
    // There is nowhere to report a panic.
    let _ = shielded(emit);
}

/// Calls user code if nobody else would learn of its panic, which becomes a `tracing` event that names
/// `what`.
pub fn reported(what: &str, code: impl FnOnce()) {
    if let Err(error) = shielded(code) {
        event(|| tracing::error!(%error, "{what} failed"));
    }
}

/// Waits for `future` with a waker whose panics stay here. For wakers that foreign code keeps and wakes.
pub async fn with_shielded_waker<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let waker = shielded_waker(cx.waker());
        future.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

/// A waker that wakes `waker`, and contains its panics.
#[must_use]
pub fn shielded_waker(waker: &Waker) -> Waker {
    Waker::from(Arc::new(ShieldedWaker(Shielded::new(waker.clone()))))
}

struct ShieldedWaker(Shielded<Waker>);

impl Wake for ShieldedWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        reported("a waker", || self.0.wake_by_ref());
    }
}

/// A user's value whose destructor may panic: the panic becomes a `tracing` event.
#[derive(Debug)]
pub struct Shielded<T>(ManuallyDrop<T>);

impl<T> Shielded<T> {
    /// Shields the value's destructor.
    pub fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    /// Drops the value now.
    ///
    /// # Errors
    /// [`Panicked`] if its destructor panics.
    pub fn discard(self) -> Result<(), Panicked> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the value is dropped once, here, and not used any more.
        shielded(|| unsafe { ManuallyDrop::drop(&mut this.0) })
    }
}

impl<T> Deref for Shielded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Shielded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Shielded<T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used any more.
        reported("a destructor", || unsafe { ManuallyDrop::drop(&mut self.0) });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::panic::panic_any;

    use super::*;

    thread_local! {
        /// How many more bombs go off in this thread.
        static LEFT: Cell<u32> = const { Cell::new(0) };
    }

    /// Panics when it is dropped, with another one. Without bytes of its own, since one that is forgotten
    /// would be a leak.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            if let Some(left) = LEFT.get().checked_sub(1) {
                LEFT.set(left);
                panic_any(Bomb);
            }
        }
    }

    #[test]
    fn a_panic_ends_in_the_shield_even_if_its_payload_panics() {
        assert_eq!(shielded(|| 1), Ok(1));
        assert_eq!(shielded(|| panic!("so")).map(|(): ()| 0), Err(Panicked("so".to_owned())));
        assert_eq!(shielded(|| panic!("{}", 1)).map(|(): ()| 0), Err(Panicked("1".to_owned())));
        LEFT.set(2);
        shielded(|| panic_any(Bomb)).expect_err("panicked");
        assert_eq!(LEFT.replace(0), 1, "the payload's destructor has panicked");
    }

    #[test]
    fn a_destructor_that_panics_while_its_thread_panics_does_not_abort() {
        let outer = shielded(|| {
            LEFT.set(1);
            let _bomb = Shielded::new(Bomb);
            panic!("first");
        });
        assert_eq!(outer.map(|(): ()| 0), Err(Panicked("first".to_owned())));
    }
}
