//! A subscription of a native component: [deliveries](Deliveries) at the host's own addresses.

use std::sync::Arc;

use blockcast_blocks::Signal;

use super::space::ArenaBase;
use crate::hosting::deliveries::Deliveries;

/// A subscription of a native component.
#[derive(Debug)]
pub(crate) struct LibrarySubscription {
    pub(super) deliveries: Deliveries<ArenaBase>,
    /// The signal that it waits on, if it has a name of its own.
    pub(super) signal: Option<Arc<Signal>>,
}

impl LibrarySubscription {
    pub(crate) fn new(deliveries: Deliveries<ArenaBase>, signal: Option<Arc<Signal>>) -> Self {
        Self { deliveries, signal }
    }
}

#[cfg(test)]
mod tests {
    use blockcast_blocks::abi::Record;
    use blockcast_blocks::{ChannelConfig, PublisherId, Reader, ReaderOptions, Schema, channel};
    use blockcast_subscriber::{Subscription, subscription};

    use super::super::space::ThisProcess;
    use super::*;
    use crate::component::limit_policy::LimitPolicy;
    use crate::component::limits::ComponentLimits;
    use crate::hosting::held_blocks::HeldBlocks;
    use crate::hosting::topic_access::SubscriptionSource;

    struct Arrivals(Subscription);

    // SAFETY: the readers come from the subscription, which alone has them, and no component writes to the
    // topic.
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
            // SAFETY: the batch has that many records, and nobody else uses it during the call.
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
