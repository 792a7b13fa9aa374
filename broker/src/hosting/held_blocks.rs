//! How many blocks of each publisher one component holds: [`HeldBlocks`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use blockcast_blocks::{Channel, RawSample};

use crate::component::limits::ComponentLimits;

/// Counts how many blocks of each publisher one component keeps from being reused, over all its
/// subscriptions.
#[derive(Clone, Debug)]
pub(crate) struct HeldBlocks {
    limits: Arc<ComponentLimits>,
    counts: Arc<Mutex<BTreeMap<u64, Weak<AtomicU32>>>>,
}

impl HeldBlocks {
    pub(crate) fn new(limits: &ComponentLimits) -> Self {
        Self { limits: Arc::new(limits.clone()), counts: Arc::default() }
    }

    /// The most closed publishers whose messages one subscription may keep.
    pub(crate) fn max_departed(&self) -> usize {
        self.limits.departed_per_subscription as usize
    }

    /// The most messages that one subscription may hold.
    pub(crate) fn max_held(&self) -> usize {
        self.limits.held as usize
    }

    /// The component's share of a publisher's blocks.
    pub(crate) fn share_of(&self, channel: &Channel) -> Share {
        // A panic while the map is locked leaves it intact.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, count| count.strong_count() > 0);
        let entry = counts.entry(channel.publisher().get()).or_default();
        let held = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&held);
        Share { held, most: self.limits.share_of(channel.config().blocks) }
    }
}

/// How many blocks of one publisher the component holds, and may hold.
#[derive(Debug)]
pub(crate) struct Share {
    held: Arc<AtomicU32>,
    most: u32,
}

impl Share {
    pub(crate) fn is_used_up(&self) -> bool {
        // Ordering: Relaxed. One thread at a time runs the component, and moving it to another thread orders
        // everything.
        self.held.load(Ordering::Relaxed) >= self.most
    }

    /// Counts the sample's block as held until the returned value is dropped.
    pub(crate) fn hold(&self, sample: RawSample) -> HeldBlock {
        self.held.fetch_add(1, Ordering::Relaxed);
        HeldBlock { sample, held: Arc::clone(&self.held) }
    }
}

/// A message whose block the component holds.
pub(crate) struct HeldBlock {
    pub(crate) sample: RawSample,
    held: Arc<AtomicU32>,
}

impl Drop for HeldBlock {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use blockcast_blocks::{ChannelConfig, PublisherId, ReaderOptions, Schema, Signal, channel};

    use super::*;

    #[test]
    fn publishers_with_equal_lower_32_bits_have_separate_shares() {
        let schema = Schema::named("test");
        let [mut one, another] = [1, 1 + (1 << 32)].map(|number| {
            let mut config = ChannelConfig::new(PublisherId::new(number), schema.clone());
            config.blocks = 2;
            channel(config).expect("a channel")
        });
        let held_blocks = HeldBlocks::new(&ComponentLimits::default());
        let [share, other] = [held_blocks.share_of(one.channel()), held_blocks.share_of(another.channel())];
        let mut reader = one.channel().join(&schema, ReaderOptions::default(), Signal::new()).expect("joins");
        one.try_loan(1).expect("a block").publish(1).expect("fits");
        let _held = share.hold(reader.receive_owned().expect("a message"));
        assert!(share.is_used_up() && !other.is_used_up());
    }
}
