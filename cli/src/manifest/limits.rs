//! [`Limits`].

use std::str::FromStr;

use blockcast::{ComponentLimits, Isolation, Limit};
use serde::Deserialize;

use super::values::{Parsed, PerSecond, Size, Time};

/// `[guest.limits]`, `[library.limits]` and `[process.limits]`. Defaults are those of [`ComponentLimits`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    memory: Option<Size>,
    windows: Option<Size>,
    subscriptions: Option<u32>,
    subscriptions_per_topic: Option<u32>,
    publishers: Option<u32>,
    publisher_bytes: Option<Size>,
    departed_publishers: Option<u32>,
    departed_per_subscription: Option<u32>,
    loans: Option<u32>,
    memory_blocks: Option<u32>,
    memory_block_bytes: Option<Size>,
    in_place: Option<Size>,
    isolation: Option<Parsed<IsolationName>>,
    topics: Option<u32>,
    attached: Option<u32>,
    held: Option<u32>,
    pool_share: Option<u32>,
    back_pressure: Option<bool>,
    publish_messages: Option<PerSecond>,
    publish_bytes: Option<PerSecond>,
    log_lines: Option<PerSecond>,
    host_calls: Option<PerSecond>,
    start_up: Option<Time>,
    compute: Option<Time>,
    run_time: Option<Time>,
    shutdown_grace: Option<Time>,
    /// Limits that end the component instead of refusing the call.
    end_at: Vec<Parsed<Limit>>,
}

impl Limits {
    /// The limits, as the broker knows them.
    pub fn component_limits(&self) -> ComponentLimits {
        let mut limits = ComponentLimits::default();
        let set = |to: &mut u64, size: Option<Size>| *to = size.map_or(*to, |size| size.0);
        set(&mut limits.memory, self.memory);
        set(&mut limits.windows, self.windows);
        set(&mut limits.publisher_bytes, self.publisher_bytes);
        set(&mut limits.memory_block_bytes, self.memory_block_bytes);
        let set = |to: &mut u32, number: Option<u32>| *to = number.unwrap_or(*to);
        set(&mut limits.subscriptions, self.subscriptions);
        set(&mut limits.subscriptions_per_topic, self.subscriptions_per_topic);
        set(&mut limits.publishers, self.publishers);
        set(&mut limits.departed_publishers, self.departed_publishers);
        set(&mut limits.departed_per_subscription, self.departed_per_subscription);
        set(&mut limits.loans, self.loans);
        set(&mut limits.memory_blocks, self.memory_blocks);
        set(&mut limits.topics, self.topics);
        set(&mut limits.attached, self.attached);
        set(&mut limits.held, self.held);
        set(&mut limits.pool_share, self.pool_share);
        let in_place = self.in_place.map(|size| u32::try_from(size.0).unwrap_or(u32::MAX));
        limits.in_place = in_place.unwrap_or(limits.in_place);
        limits.isolation = self.isolation.map_or(limits.isolation, |name| name.0.0);
        limits.back_pressure = self.back_pressure.unwrap_or(limits.back_pressure);
        let rate = |rate: Option<PerSecond>| rate.map(|rate| rate.0);
        limits.publish_messages = rate(self.publish_messages);
        limits.publish_bytes = rate(self.publish_bytes);
        limits.log_lines = rate(self.log_lines).unwrap_or(limits.log_lines);
        limits.host_calls = rate(self.host_calls);
        let time = |time: Option<Time>| time.map(|time| time.0);
        limits.start_up = time(self.start_up).unwrap_or(limits.start_up);
        limits.compute = time(self.compute);
        limits.run_time = time(self.run_time);
        limits.shutdown_grace = time(self.shutdown_grace).unwrap_or(limits.shutdown_grace);
        limits.end_at = self.end_at.iter().map(|limit| limit.0).collect();
        limits
    }
}

/// `isolation`
#[derive(Clone, Copy, Debug)]
struct IsolationName(Isolation);

impl FromStr for IsolationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "arena" => Ok(Self(Isolation::Arena)),
            "strict" => Ok(Self(Isolation::Strict)),
            "copied" => Ok(Self(Isolation::Copied)),
            _ => Err(format!("{text:?} is not an isolation: use \"arena\", \"strict\" or \"copied\"")),
        }
    }
}
