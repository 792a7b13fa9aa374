//! A subscription of a native component: [deliveries](Deliveries) where they are, and holds whose numbers are not given out again.

use std::sync::Arc;

use blockcast_blocks::Signal;
use blockcast_blocks::abi::Error;

use super::space::{Base, ThisProcess};
use crate::component::limits::ComponentLimits;
use crate::hosting::deliveries::Deliveries;

/// Bits of a hold's number that name its place; the others count how often the place was used.
const PLACE_BITS: u32 = 20;

/// A subscription of a native component.
#[derive(Debug)]
pub(crate) struct LibrarySubscription {
    pub(super) deliveries: Deliveries<Base>,
    /// What it waits on, if it has a name of its own.
    pub(super) signal: Option<Arc<Signal>>,
    /// For each place of a hold, how often it was used before. Modulo 4096: a number that is late by that many holds of one
    /// place is taken for another one's.
    uses: Vec<u32>,
}

impl LibrarySubscription {
    pub(crate) fn new(deliveries: Deliveries<Base>, signal: Option<Arc<Signal>>) -> Self {
        Self { deliveries, signal, uses: Vec::new() }
    }

    /// Keeps one delivery beyond its release.
    pub(crate) fn hold(&mut self, limits: &ComponentLimits, index: u64) -> Result<u32, Error> {
        let place = self.deliveries.hold(&mut ThisProcess, limits, index)?;
        if place >= 1 << PLACE_BITS {
            self.deliveries.unhold(&mut ThisProcess, place)?;
            return Err(Error::Limit);
        }
        let at = place as usize;
        if at >= self.uses.len() {
            self.uses.resize(at + 1, 0);
        }
        Ok(self.uses[at] << PLACE_BITS | place)
    }

    /// Gives a hold back. A number that was given back already stands for nothing.
    pub(crate) fn unhold(&mut self, hold: u32) -> Result<(), Error> {
        let place = hold & ((1 << PLACE_BITS) - 1);
        let uses = self.uses.get_mut(place as usize).filter(|uses| **uses == hold >> PLACE_BITS);
        let uses = uses.ok_or(Error::InvalidHandle)?;
        self.deliveries.unhold(&mut ThisProcess, place)?;
        *uses = (*uses + 1) & (u32::MAX >> PLACE_BITS);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use blockcast_blocks::abi::Record;
    use blockcast_blocks::{ChannelConfig, PublisherId, Reader, ReaderOptions, Schema, channel};
    use blockcast_subscriber::{Subscription, subscription};

    use super::*;
    use crate::component::limit_policy::LimitPolicy;
    use crate::component::limits::ComponentLimits;
    use crate::hosting::held_blocks::HeldBlocks;
    use crate::hosting::topic_access::SubscriptionSource;

    struct Arrivals(Subscription);

    // SAFETY: the readers come from the subscription, which alone has them, and no component writes to the topic.
    unsafe impl SubscriptionSource for Arrivals {
        fn next_joined(&mut self) -> Option<Result<Reader, blockcast_blocks::JoinError>> {
            self.0.next_arrival().map(Ok)
        }

        fn is_open(&self) -> bool {
            self.0.awaits_publisher()
        }
    }

    #[test]
    fn what_a_publisher_left_comes_before_all_of_one_that_joined_after_it_ended() {
        for at_a_time in [1, 3, 64] {
            let (feed, subscription) = subscription();
            let limits = ComponentLimits::default();
            let (kept, excess) = (HeldBlocks::new(&limits), LimitPolicy::new(&limits));
            let mut deliveries = Deliveries::new(Box::new(Arrivals(subscription)), true, kept, excess);
            let schema = Schema::named("test");
            for number in 0..3 {
                let mut writer =
                    channel(ChannelConfig::new(PublisherId::new(number), schema.clone())).expect("a channel");
                let reader =
                    writer.channel().join(&schema, ReaderOptions::default(), Arc::clone(feed.signal()));
                assert!(feed.add(reader.expect("joins")));
                for _ in 0..10 {
                    writer.try_loan(1).expect("a block").publish(1).expect("fits");
                }
            }
            let mut batch = vec![Record::default(); at_a_time];
            let target = (batch.as_mut_ptr(), at_a_time as u32);
            let (mut publishers, mut released) = (Vec::new(), 0);
            // SAFETY: the batch has so many records, and nobody else uses it during the call.
            while let Ok(count) = unsafe { deliveries.poll(&mut ThisProcess, &limits, target, released) } {
                assert!(count > 0, "nothing is left out");
                released += u64::from(count);
                publishers.extend(batch[..count as usize].iter().map(|record| record.publisher));
            }
            let expected: Vec<u32> = (0..3).flat_map(|number| [number; 10]).collect();
            assert_eq!(publishers, expected, "{at_a_time} at a time");
        }
    }
}
