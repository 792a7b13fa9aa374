//! What a component may use: [`ComponentLimits`].

use std::time::Duration;

use super::isolation::Isolation;
use crate::component::limit_policy::{Limit, OnExcess};

/// Limits of one guest. The defaults suit a small app; a grant sets them explicitly.
///
/// A call that would go beyond one is refused with the interface's error `limit`, and growing the memory fails as out of
/// memory, unless [`end_at`](Self::end_at) names the limit: then the guest is ended with
/// [`ExitReason::Killed`](crate::component::exit::ExitReason::Killed). Limits of time always end it.
///
/// There is no limit on the rate at which a guest receives: reading costs nobody else anything (the blocks that
/// it keeps do, and are limited), and a slow reader is a burden to its publishers where a fast one is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentLimits {
    /// Bytes of ordinary linear memory (code's data, heap, stack). Address space that the host asked the guest to
    /// donate does not count. It also bounds how long a single instruction can take: see [`compute`](Self::compute).
    pub memory: u64,
    /// Bytes of address space that may be donated for windows. What the guest was asked to donate and keeps, or donates and
    /// takes back, is memory of its own, beyond [`memory`](Self::memory): both together bound what it has.
    pub windows: u64,
    /// Subscriptions open at a time.
    pub subscriptions: u32,
    /// Subscriptions of one topic open at a time. Each takes a place with every publisher of the topic, which has
    /// [so many](blockcast_publisher::PublisherOptions::max_subscribers): this keeps a guest from taking them all.
    pub subscriptions_per_topic: u32,
    /// Publishers open at a time.
    pub publishers: u32,
    /// Bytes of memory that the channels of all its publishers take together, in whole pages: blocks, and per block and
    /// subscriber what the host keeps beside them ([`ChannelConfig::memory`](blockcast_blocks::ChannelConfig::memory)).
    ///
    /// A publisher that is closed counts until its memory is free: until every subscriber has received its messages and
    /// dropped the samples. So does one that a former run of a restarted component has left.
    pub publisher_bytes: u64,
    /// Closed publishers whose memory is not free yet, at a time. Opening another one is refused then. Each takes two open
    /// files of the process.
    pub departed_publishers: u32,
    /// Publishers of one subscription that are closed while the subscription still has their messages: it has not
    /// received all, or keeps some. One more ends the component, since the host cannot free their memory otherwise.
    pub departed_per_subscription: u32,
    /// Blocks of its publishers that it fills, at a time. What a native library's line has in stock counts as one.
    pub loans: u32,
    /// Handles on memory blocks, at a time. A guest that makes more is ended, since making one cannot fail.
    ///
    /// Each block that was attached takes an open file of the process, as does each of the guest's publishers and, with
    /// strict isolation, each publisher that it subscribes to. Where the process has no more, attaching and opening are
    /// `internal`.
    pub memory_blocks: u32,
    /// Bytes of memory blocks that the host manages, at a time.
    pub memory_block_bytes: u64,
    /// Messages of at least that many bytes are built in the block that subscribers read, shorter ones copied into it. It
    /// takes two changes of page protection instead of a copy: about as long as copying 1 MiB, more where threads of the
    /// process run on other processors. [`u32::MAX`]: all are copied.
    pub in_place: u32,
    /// How much of its topics' arenas it sees.
    pub isolation: Isolation,
    /// Topics that it has brought into being by opening them and that exist, over all its restarts. 0: it reaches topics only that
    /// others have opened or that were declared.
    pub topics: u32,
    /// Messages of one subscription that are delivered and neither released nor held, at a time.
    pub attached: u32,
    /// Messages of one subscription that are held, at a time.
    pub held: u32,
    /// The share of a publisher's blocks, in percent, that the guest may keep from being used again, all its
    /// subscriptions together: by holds, and by deliveries that it has not released of subscriptions that publishers may
    /// overtake. At least one block. Several guests have a share each.
    pub pool_share: u32,
    /// Whether it may subscribe so that publishers wait for it (the overflow policy `block`). Where it may not,
    /// that is `denied`: a guest that stands still can then not stop a publisher.
    ///
    /// A native library that is [abandoned](crate::ExitReason::Abandoned) holds back no publisher, but keeps the blocks that it
    /// had for as long as its threads go on: of such a subscription up to [`attached`](Self::attached) of them, otherwise as
    /// many as `pool_share` and `held` allow.
    pub back_pressure: bool,
    /// Messages that it may publish per second, all its publishers together. `None`: as many as it can.
    pub publish_messages: Option<Rate>,
    /// Bytes that it may publish per second, all its publishers together. A message goes out while some of the
    /// budget is left, and may overdraw it once. `None`: as many as it can.
    pub publish_bytes: Option<Rate>,
    /// Lines of its log that are passed on per second. The rest is counted and dropped. As many lines of the host's own log may
    /// tell of topics that the component was refused.
    pub log_lines: Rate,
    /// Calls into the host per second, those of WASI included. There is no way to refuse one, so going beyond it always ends the guest.
    pub host_calls: Option<Rate>,
    /// Time in which the guest's instantiation, its start functions included, must be over.
    pub start_up: Duration,
    /// Processor time that the guest may use, that of host functions included. Looked at every 5 ms: at loops, calls of
    /// functions and host calls.
    ///
    /// What is under way is not interrupted, so a guest may overdraw its time by one step: a single instruction, of which the longest
    /// are `memory.fill` and `memory.copy`, whose length the guest's memory bounds; or one call into the host, of which the longest is to
    /// publish a message. That takes as long as copying or sealing the message and validating it, and its length is bounded by
    /// [`publisher_bytes`](Self::publisher_bytes). The same holds for the run time, the grace and for being cancelled.
    pub compute: Option<Duration>,
    /// Time from the call of `run` after which the guest is ended.
    pub run_time: Option<Duration>,
    /// Time from a shutdown request after which a guest that goes on regardless is ended.
    pub shutdown_grace: Duration,
    /// The limits that end the guest; at all others that can refuse something they do.
    pub end_at: Vec<Limit>,
}

impl Default for ComponentLimits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            windows: 1 << 30,
            subscriptions: 64,
            subscriptions_per_topic: 8,
            publishers: 64,
            publisher_bytes: 256 << 20,
            departed_publishers: 64,
            departed_per_subscription: 256,
            loans: 64,
            memory_blocks: 1 << 8,
            memory_block_bytes: 64 << 20,
            in_place: 1 << 20,
            isolation: Isolation::default(),
            topics: 64,
            attached: 1 << 16,
            held: 1 << 12,
            pool_share: 50,
            back_pressure: true,
            publish_messages: None,
            publish_bytes: None,
            log_lines: Rate::per_second(1000),
            host_calls: None,
            start_up: Duration::from_secs(5),
            compute: None,
            run_time: None,
            shutdown_grace: Duration::from_secs(2),
            end_at: Vec::new(),
        }
    }
}

impl ComponentLimits {
    /// What exceeding `limit` does.
    #[must_use]
    pub fn on_excess(&self, limit: Limit) -> OnExcess {
        if limit.always_ends() || self.end_at.contains(&limit) { OnExcess::End } else { OnExcess::Refuse }
    }

    /// How many of a publisher's `blocks` the guest may keep.
    pub(crate) fn share_of(&self, blocks: u32) -> u32 {
        let share = u64::from(blocks) * u64::from(self.pool_share.min(100)) / 100;
        u32::try_from(share).unwrap_or(blocks).max(1)
    }
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Per second, in the long run.
    pub per_second: u64,
    /// At once, after a rest. At least 1 is needed for anything to happen.
    pub burst: u64,
}

impl Rate {
    /// `count` per second, and as many at once.
    #[must_use]
    pub const fn per_second(count: u64) -> Self {
        Self { per_second: count, burst: count }
    }

    /// The same rate with another number at once.
    #[must_use]
    pub const fn burst(self, burst: u64) -> Self {
        Self { burst, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_at_least_a_block_and_at_most_all() {
        let share = |pool_share, blocks| {
            ComponentLimits { pool_share, ..ComponentLimits::default() }.share_of(blocks)
        };
        assert_eq!(
            (share(50, 64), share(50, 3), share(0, 64), share(100, 64), share(700, 64)),
            (32, 1, 1, 64, 64)
        );
    }
}
