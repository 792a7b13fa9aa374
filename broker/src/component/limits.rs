//! [`ComponentLimits`]: the limits of a component.

use std::time::Duration;

use super::isolation::Isolation;
use crate::component::limit_policy::{Limit, OnExcess};

/// Limits of one component. The defaults suit a small app. Set others with
/// [`Grants::limits`](crate::Grants::limits).
///
/// A call that would exceed a limit is refused with the error `limit`, and growing a guest's memory fails as
/// out of memory. If [`end_at`](Self::end_at) names the limit, the component is ended instead, with
/// [`ExitReason::Killed`](crate::component::exit::ExitReason::Killed). Time limits always end it.
///
/// Native libraries ignore `memory`, `windows`, `in_place` and `isolation`.
///
/// The rate of receiving is not limited. Reading costs nobody else anything, except for the blocks that a
/// component keeps, and those are limited. A slow reader is a burden to its publishers; a fast one is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentLimits {
    /// Size of a guest's ordinary linear memory in bytes: static data, heap and stack. Address space that the
    /// host asked the guest to donate does not count. The size also bounds how long a single instruction can
    /// take: see [`compute`](Self::compute).
    pub memory: u64,
    /// Bytes of address space that a guest may donate for windows. If the guest keeps address space that it
    /// was asked to donate, or takes it back, it can use it as memory beyond [`memory`](Self::memory). The
    /// sum of both limits bounds the memory that it has.
    pub windows: u64,
    /// Number of open subscriptions.
    pub subscriptions: u32,
    /// Number of open subscriptions to one topic. Each counts towards the
    /// [`max_subscribers`](blockcast_publisher::PublisherOptions::max_subscribers) of every publisher of the
    /// topic. This limit keeps a component from using them all up.
    pub subscriptions_per_topic: u32,
    /// Number of open publishers. A guest can have 65,535 at most.
    pub publishers: u32,
    /// Bytes of memory that the channels of all its publishers use together, in whole pages: the blocks, and
    /// what the host keeps per block and per subscriber
    /// ([`ChannelConfig::memory`](blockcast_blocks::ChannelConfig::memory)).
    ///
    /// A closed publisher counts until its memory is free, that is, until every subscriber has received its
    /// messages and dropped the samples. The same goes for publishers that earlier runs of a restarted
    /// component have left.
    pub publisher_bytes: u64,
    /// Number of closed publishers whose memory is not free yet. Beyond it, opening another publisher is
    /// refused. Each uses two of the process's file descriptors.
    pub departed_publishers: u32,
    /// Number of closed publishers of which one subscription still has messages, because it has not received
    /// all of them or holds some. Exceeding this ends the component, since the host cannot free their memory
    /// otherwise. The host counts them whenever a publisher joins.
    pub departed_per_subscription: u32,
    /// Number of loaned blocks. The blocks that a native library has taken for direct publishing count as one
    /// per publisher.
    pub loans: u32,
    /// Number of handles of memory blocks. A guest that creates more is ended, since creating one cannot
    /// fail.
    ///
    /// Each memory block that has been attached uses one of the process's file descriptors. So does each
    /// publisher of a guest and, with strict isolation, each publisher that a guest subscribes to. If the
    /// process has none left, attaching and opening fail with `internal`.
    pub memory_blocks: u32,
    /// Total size in bytes of the memory blocks that the host manages.
    pub memory_block_bytes: u64,
    /// Length in bytes from which a guest builds messages in the block that subscribers read. Shorter
    /// messages are copied into the block. Building in place changes the page protection twice, which takes
    /// about as long as copying 1 MiB, and longer if threads of the process run on other processors.
    /// [`u32::MAX`] copies all messages.
    pub in_place: u32,
    /// How much of its topics' arenas a guest sees.
    pub isolation: Isolation,
    /// Number of existing topics that it has created by opening them, over all its runs. If 0, it can only
    /// open topics that others have created or declared.
    pub topics: u32,
    /// Number of messages of one subscription that are delivered and neither released nor held.
    pub attached: u32,
    /// Number of messages of one subscription that are held.
    pub held: u32,
    /// Percentage of a publisher's blocks that all subscriptions of the component together may keep from
    /// being reused, and at least one block. Holds count, and so do unreleased deliveries of subscriptions
    /// that publishers may overtake. Each component has its own share.
    pub pool_share: u32,
    /// Whether it may subscribe with the overflow policy `block`, so that publishers wait for it. If not,
    /// such a subscription is `denied`, and a stalled component cannot stop a publisher.
    ///
    /// An [abandoned](crate::ExitReason::Abandoned) native library does not hold back publishers, but keeps
    /// its blocks while its threads are running: up to [`attached`](Self::attached) blocks of each such
    /// subscription, otherwise as many as `pool_share` and `held` allow.
    pub back_pressure: bool,
    /// Messages that all its publishers together may publish per second. `None` means no limit.
    pub publish_messages: Option<Rate>,
    /// Bytes that all its publishers together may publish per second. A message may be published while some
    /// of the budget is left, even if it overdraws the budget. `None` means no limit.
    pub publish_bytes: Option<Rate>,
    /// Log lines that are passed on per second. Further lines are counted and dropped. The host's own log
    /// reports the topics that the component was refused at the same rate at most.
    pub log_lines: Rate,
    /// Calls to the host per second, including those of WASI. Since a call cannot be refused, exceeding this
    /// always ends the component.
    pub host_calls: Option<Rate>,
    /// Time for starting: instantiating a guest, including its start functions, or loading a native library.
    pub start_up: Duration,
    /// Processor time that it may use, including host functions. It is checked every 5 ms. A guest is
    /// interrupted at loops, function calls and host calls.
    ///
    /// Since nothing is interrupted midway, a guest may overdraw its time by one step. The step may be a
    /// single instruction: the longest are `memory.fill` and `memory.copy`, whose length the guest's memory
    /// bounds. Or it may be one call to the host: the longest is to publish a message. That takes as long as
    /// copying or sealing the message and validating it, and [`publisher_bytes`](Self::publisher_bytes)
    /// bounds its length. The same holds for the run time, the grace period and for being cancelled.
    pub compute: Option<Duration>,
    /// Time after which it is ended, from the call of `run`.
    pub run_time: Option<Duration>,
    /// Grace period: time after which it is ended if it does not finish, from the shutdown request.
    pub shutdown_grace: Duration,
    /// The limits that end the component. All other limits refuse the call, if they can.
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
    /// Returns the consequence of exceeding `limit`.
    #[must_use]
    pub fn on_excess(&self, limit: Limit) -> OnExcess {
        if limit.always_ends() || self.end_at.contains(&limit) { OnExcess::End } else { OnExcess::Refuse }
    }

    /// Number of a publisher's `blocks` that the component may keep.
    pub(crate) fn share_of(&self, blocks: u32) -> u32 {
        let share = u64::from(blocks) * u64::from(self.pool_share.min(100)) / 100;
        u32::try_from(share).unwrap_or(blocks).max(1)
    }
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Number per second in the long run.
    pub per_second: u64,
    /// Number at once after a pause. Nothing can happen unless this is at least 1.
    pub burst: u64,
}

impl Rate {
    /// `count` per second, with a burst of the same number.
    #[must_use]
    pub const fn per_second(count: u64) -> Self {
        Self { per_second: count, burst: count }
    }

    /// The same rate with another burst.
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
