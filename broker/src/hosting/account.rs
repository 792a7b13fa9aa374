//! The host memory that the channels of one component's publishers occupy: [`ChannelAccount`].
//!
//! Closing a publisher does not free its memory: its messages stay until every subscriber has received and
//! released them. So a channel is charged until its memory is free, through all restarts of the component.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use blockcast_blocks::Channel;

use crate::component::limit_policy::Limit;
use crate::component::limits::ComponentLimits;

/// The account of one component. Clones share the account.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChannelAccount(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    bytes: AtomicU64,
    channels: AtomicU32,
}

impl Totals {
    // Ordering: Relaxed. The counts guard only themselves, and one thread at a time opens publishers for a
    // component.
    fn add(&self, bytes: u64, limit: u64) -> Result<(), Limit> {
        let sum = |now: u64| now.checked_add(bytes).filter(|&sum| sum <= limit);
        let added = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
        added.map(drop).map_err(|_| Limit::PublisherBytes)
    }
}

impl ChannelAccount {
    /// Charges a channel of `bytes` that is about to be created, for a component that has `open` publishers
    /// now.
    ///
    /// # Errors
    /// The limit that the channel would exceed.
    pub(crate) fn charge(&self, bytes: u64, open: u32, limits: &ComponentLimits) -> Result<Charge, Limit> {
        if open >= limits.publishers {
            return Err(Limit::Publishers);
        }
        let departed = self.0.channels.load(Ordering::Relaxed).saturating_sub(open);
        if departed >= limits.departed_publishers {
            return Err(Limit::DepartedPublishers);
        }
        self.0.add(bytes, limits.publisher_bytes)?;
        self.0.channels.fetch_add(1, Ordering::Relaxed);
        Ok(Charge { totals: Arc::clone(&self.0), bytes })
    }
}

/// The charge for one channel. Dropping it ends the charge.
#[derive(Debug)]
pub(crate) struct Charge {
    totals: Arc<Totals>,
    bytes: u64,
}

impl Charge {
    /// Attaches the charge to the channel, which drops it with its memory.
    ///
    /// # Errors
    /// The channel may take more than expected, since it has room for every subscriber of its topic. Fails if
    /// that exceeds the limit.
    pub(crate) fn leave_with(mut self, channel: &Channel, limits: &ComponentLimits) -> Result<(), Limit> {
        let bytes = channel.config().memory().unwrap_or(self.bytes);
        if let Some(more) = bytes.checked_sub(self.bytes) {
            self.totals.add(more, limits.publisher_bytes)?;
            self.bytes = bytes;
        }
        // A channel has one publisher, hence one charge.
        let charged = channel.charge(Box::new(self));
        debug_assert!(charged.is_ok(), "a channel was charged twice");
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.totals.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.totals.channels.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_lasts_until_it_is_dropped() {
        let limits = ComponentLimits {
            publishers: 3,
            departed_publishers: 1,
            publisher_bytes: 100,
            ..ComponentLimits::default()
        };
        let account = ChannelAccount::default();
        let charge = |bytes, open| account.charge(bytes, open, &limits);
        let first = charge(60, 0).expect("within the limits");
        assert_eq!(charge(41, 1).expect_err("bytes"), Limit::PublisherBytes);
        let second = charge(40, 1).expect("within the limits");
        assert_eq!(charge(0, 3).expect_err("publishers"), Limit::Publishers);
        assert_eq!(charge(0, 1).expect_err("the first one left"), Limit::DepartedPublishers);
        drop(first);
        assert_eq!(charge(61, 1).expect_err("bytes"), Limit::PublisherBytes);
        charge(60, 1).expect("the first one's bytes are free");
        drop(second);
        charge(100, 0).expect("all is free");
        assert_eq!(charge(u64::MAX, 0).expect_err("bytes"), Limit::PublisherBytes);
    }
}
