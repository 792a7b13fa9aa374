//! Owned samples of a component that has a host, and how they stay cheap.
//!
//! A sample that is dropped soon costs no host call: while it lives, its subscription does not release it.
//! Only a sample that would hold back the others becomes a hold in the host: when [`WINDOW`] of them live,
//! before the component waits, and when the subscription is dropped.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Weak};

use super::attached::Attached;
use super::subscription::{Delivery, bytes_of};
use crate::descriptor::{Descriptor, Validity};
use crate::units::PublisherId;

/// Largest number of samples that a subscription keeps by not releasing them.
const WINDOW: usize = 32;
/// No hold. Otherwise the host's number plus 1.
const NONE: u32 = 0;

/// One message that samples share.
struct SharedSample {
    attached: Arc<Attached>,
    delivery: Delivery,
    hold: AtomicU32,
}

impl SharedSample {
    /// Makes the host hold the message. Returns `false` if it refuses: then the subscription must keep the
    /// message.
    fn hold(&self) -> bool {
        let Ok(number) = self.attached.deliveries.handle().hold(self.delivery.index) else {
            return false;
        };
        // Ordering: Relaxed; besides the subscription, which stores it, only `drop` reads it, after the count
        // of the `Arc`, which orders the two.
        self.hold.store(number.wrapping_add(1), Ordering::Relaxed);
        true
    }

    fn is_held(&self) -> bool {
        self.hold.load(Ordering::Relaxed) != NONE
    }
}

impl Drop for SharedSample {
    fn drop(&mut self) {
        let hold = *self.hold.get_mut();
        if hold != NONE {
            // Only refused if the host has already taken everything back.
            let _ = self.attached.deliveries.handle().unhold(hold - 1);
        }
    }
}

/// The samples of a subscription that keep it from releasing, oldest first.
#[derive(Default)]
pub(super) struct Samples(VecDeque<Weak<SharedSample>>);

impl Samples {
    /// Creates a sample of a message that the subscription received and has not released.
    pub(super) fn attach(&mut self, attached: &Arc<Attached>, delivery: Delivery) -> RawSample {
        let _ = self.oldest(); // forgets those that are gone
        if self.0.len() >= WINDOW
            && let Some(oldest) = self.0.front().and_then(Weak::upgrade)
        {
            oldest.hold();
        }
        let kept = SharedSample { attached: Arc::clone(attached), delivery, hold: AtomicU32::new(NONE) };
        let kept = Arc::new(kept);
        self.0.push_back(Arc::downgrade(&kept));
        RawSample(kept)
    }

    /// Index of the oldest message that a sample needs and the host does not hold.
    #[inline]
    pub(super) fn oldest(&mut self) -> Option<u64> {
        if self.0.is_empty() { None } else { self.oldest_of_some() }
    }

    fn oldest_of_some(&mut self) -> Option<u64> {
        while let Some(first) = self.0.front() {
            match first.upgrade() {
                Some(kept) if !kept.is_held() => return Some(kept.delivery.index),
                _ => self.0.pop_front(),
            };
            dropped_elsewhere();
        }
        None
    }

    /// Whether no sample keeps the subscription from releasing everything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the host hold all samples that it accepts. Returns `true` if there were any.
    pub(super) fn hold_all(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|sample| sample.upgrade().is_some_and(|kept| !kept.is_held() && !kept.hold()));
        let found = self.0.len() < before;
        if found {
            dropped_elsewhere();
        }
        found
    }
}

/// Orders the reads of other threads in dropped samples before their release. Call this when a sample was
/// found dropped.
fn dropped_elsewhere() {
    // Ordering: Acquire pairs with the Release with which the last clone of a sample is dropped.
    // `Weak::upgrade` loads Relaxed when it fails.
    fence(Ordering::Acquire);
}

/// A message that stays in place for as long as this value lives. Cloning takes no host call. Can be dropped
/// in any order.
#[derive(Clone)]
pub struct RawSample(Arc<SharedSample>);

impl RawSample {
    /// The message's bytes, in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the descriptor was taken from the subscription that `SharedSample` keeps open; until the
        // host holds the message its subscription does not release it (`Samples::oldest`), and the hold lasts
        // until `SharedSample` is dropped.
        unsafe { bytes_of(&self.0.delivery.descriptor) }
    }

    /// Whether the bytes are known to be a value of the topic's layout.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.descriptor().validity
    }

    /// The message's position, time and length.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        self.0.delivery.descriptor
    }

    /// The publisher of the message.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.0.delivery.publisher
    }
}

impl fmt::Debug for RawSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSample").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}
