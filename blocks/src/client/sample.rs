//! Owned samples of a component that asks its host, and how they stay cheap.
//!
//! A sample that is dropped soon costs no host call: while it lives, its subscription does not release it. Only a sample that
//! would hold back the others is turned into a hold of the host's: when [`WINDOW`] of them live, before the
//! guest waits, and when the subscription is dropped.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Weak};

use super::attached::Attached;
use super::subscription::{Delivery, bytes_of};
use crate::descriptor::{Descriptor, Validity};
use crate::units::PublisherId;

/// Samples that a subscription keeps by not releasing them.
const WINDOW: usize = 32;
/// No hold; otherwise the host's number plus 1.
const NONE: u32 = 0;

/// One message that samples share.
struct Kept {
    attached: Arc<Attached>,
    delivery: Delivery,
    hold: AtomicU32,
}

impl Kept {
    /// Makes the host hold the message. False: it refuses, and the subscription must go on keeping it.
    fn hold(&self) -> bool {
        let Ok(number) = self.attached.deliveries.handle().hold(self.delivery.index) else {
            return false;
        };
        // Ordering: Relaxed; besides the subscription, which stores it, only `drop` reads it, after the count of the `Arc`, which
        // orders the two.
        self.hold.store(number.wrapping_add(1), Ordering::Relaxed);
        true
    }

    fn is_held(&self) -> bool {
        self.hold.load(Ordering::Relaxed) != NONE
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let hold = *self.hold.get_mut();
        if hold != NONE {
            // Refused only where the host has taken everything back already.
            let _ = self.attached.deliveries.handle().unhold(hold - 1);
        }
    }
}

/// The samples of a subscription that keep it from releasing, oldest first.
#[derive(Default)]
pub(super) struct Samples(VecDeque<Weak<Kept>>);

impl Samples {
    /// Makes a sample of a message that the subscription has taken and not released.
    pub(super) fn attach(&mut self, attached: &Arc<Attached>, delivery: Delivery) -> RawSample {
        let _ = self.oldest(); // forgets those that are gone
        if self.0.len() >= WINDOW
            && let Some(oldest) = self.0.front().and_then(Weak::upgrade)
        {
            oldest.hold();
        }
        let kept = Kept { attached: Arc::clone(attached), delivery, hold: AtomicU32::new(NONE) };
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

    /// Whether the subscription may release everything, as far as samples are concerned.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the host hold all that it accepts. True: there was something to do.
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

/// Orders what other threads have read in samples before the release of these: a sample was found to be gone.
fn dropped_elsewhere() {
    // Ordering: Acquire pairs with the Release with which the last clone of a sample is dropped. `Weak::upgrade` loads Relaxed when it
    // fails.
    fence(Ordering::Acquire);
}

/// A message that stays in place for as long as this value lives. Cloned without a host call, dropped in any order.
#[derive(Clone)]
pub struct RawSample(Arc<Kept>);

impl RawSample {
    /// The message's bytes, in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the descriptor was taken from the subscription that `Kept` keeps open; until the host holds the
        // message its subscription does not release it (`Samples::oldest`), and the hold lasts until `Kept` is dropped.
        unsafe { bytes_of(&self.0.delivery.descriptor) }
    }

    /// Whether the bytes are known to be a value of the topic's layout.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.descriptor().validity
    }

    /// Position, time and length.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        self.0.delivery.descriptor
    }

    /// Who published it.
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
