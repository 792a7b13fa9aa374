//! How many blocks of each publisher one component keeps from being used again: [`HeldBlocks`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use blockcast_blocks::{Channel, RawSample};

use crate::component::limits::ComponentLimits;

/// Counts, for one guest and all its subscriptions, how many blocks of each publisher it keeps from being used again.
#[derive(Clone, Debug)]
pub(crate) struct HeldBlocks {
    limits: Arc<ComponentLimits>,
    counts: Arc<Mutex<BTreeMap<u64, Weak<AtomicU32>>>>,
}

impl HeldBlocks {
    pub(crate) fn new(limits: &ComponentLimits) -> Self {
        Self { limits: Arc::new(limits.clone()), counts: Arc::default() }
    }

    /// Closed publishers whose messages one subscription may keep.
    pub(crate) fn departed(&self) -> usize {
        self.limits.departed_per_subscription as usize
    }

    /// The guest's share of a publisher's blocks.
    pub(crate) fn share_of(&self, channel: &Channel) -> Share {
        // Whatever panics while the map is locked leaves it whole.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, count| count.strong_count() > 0);
        let entry = counts.entry(channel.publisher().get()).or_default();
        let kept = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&kept);
        Share { kept, most: self.limits.share_of(channel.config().blocks) }
    }
}

/// How many blocks of one publisher the guest keeps, and may keep.
#[derive(Debug)]
pub(crate) struct Share {
    kept: Arc<AtomicU32>,
    most: u32,
}

impl Share {
    pub(crate) fn is_used_up(&self) -> bool {
        // Ordering: one thread at a time runs the guest, and changes of thread order everything.
        self.kept.load(Ordering::Relaxed) >= self.most
    }

    pub(crate) fn keep(&self, sample: RawSample) -> HeldBlock {
        self.kept.fetch_add(1, Ordering::Relaxed);
        HeldBlock { sample, kept: Arc::clone(&self.kept) }
    }
}

/// A message whose block the guest keeps.
pub(crate) struct HeldBlock {
    pub(crate) sample: RawSample,
    kept: Arc<AtomicU32>,
}

impl Drop for HeldBlock {
    fn drop(&mut self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use blockcast_blocks::{ChannelConfig, PublisherId, ReaderOptions, Schema, Signal, channel};

    use super::*;

    #[test]
    fn publishers_whose_numbers_have_the_same_lower_32_bits_have_shares_of_their_own() {
        let schema = Schema::named("test");
        let [mut one, another] = [1, 1 + (1 << 32)].map(|number| {
            let config = ChannelConfig::new(PublisherId::new(number), schema.clone());
            channel(ChannelConfig { blocks: 2, ..config }).expect("a channel")
        });
        let kept = HeldBlocks::new(&ComponentLimits::default());
        let [share, other] = [kept.share_of(one.channel()), kept.share_of(another.channel())];
        let mut reader = one.channel().join(&schema, ReaderOptions::default(), Signal::new()).expect("joins");
        one.try_loan(1).expect("a block").publish(1).expect("fits");
        let _kept = share.keep(reader.receive_owned().expect("a message"));
        assert!(share.is_used_up() && !other.is_used_up());
    }
}
