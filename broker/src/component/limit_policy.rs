//! Limits that a component can exceed, and the consequence: an error that it sees, or its end.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::limits::ComponentLimits;

/// The consequence of exceeding a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExcess {
    /// The call is refused with an error that the component sees.
    Refuse,
    /// The component is ended.
    End,
}

macro_rules! limits {
    ($($(#[$docs:meta])* $name:ident = $text:literal, $says:literal;)*) => {
        /// Something that [`ComponentLimits`] limits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Limit {
            $($(#[$docs])* $name,)*
        }

        impl Limit {
            /// Every limit.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The limit's name in manifests: that of the field of [`ComponentLimits`], with dashes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl fmt::Display for Limit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $says,)*
                })
            }
        }
    };
}

limits! {
    /// [`ComponentLimits::memory`].
    Memory = "memory", "it wanted more memory";
    /// [`ComponentLimits::windows`].
    Windows = "windows", "it wanted more address space for windows";
    /// [`ComponentLimits::subscriptions`].
    Subscriptions = "subscriptions", "it wanted more subscriptions";
    /// [`ComponentLimits::subscriptions_per_topic`].
    SubscriptionsPerTopic = "subscriptions-per-topic", "it wanted more subscriptions of one topic";
    /// [`ComponentLimits::publishers`].
    Publishers = "publishers", "it wanted more publishers";
    /// [`ComponentLimits::publisher_bytes`].
    PublisherBytes = "publisher-bytes", "it wanted more memory for publishers";
    /// [`ComponentLimits::departed_publishers`].
    DepartedPublishers = "departed-publishers", "too many of its closed publishers are still being read";
    /// [`ComponentLimits::departed_per_subscription`].
    DepartedPerSubscription = "departed-per-subscription",
        "a subscription left the messages of too many closed publishers";
    /// [`ComponentLimits::loans`].
    Loans = "loans", "it wanted to fill more blocks at a time";
    /// [`ComponentLimits::memory_blocks`].
    MemoryBlocks = "memory-blocks", "it has too many memory blocks";
    /// [`ComponentLimits::memory_block_bytes`].
    MemoryBlockBytes = "memory-block-bytes", "it wanted more memory for memory blocks";
    /// [`ComponentLimits::topics`].
    Topics = "topics", "it wanted to create more topics";
    /// [`ComponentLimits::attached`].
    Attached = "attached", "it did not release what was delivered";
    /// [`ComponentLimits::held`].
    Held = "held", "it wanted to hold more messages";
    /// [`ComponentLimits::pool_share`].
    PoolShare = "pool-share", "it kept too many blocks of one publisher";
    /// [`ComponentLimits::publish_messages`].
    PublishMessages = "publish-messages", "it published too many messages";
    /// [`ComponentLimits::publish_bytes`].
    PublishBytes = "publish-bytes", "it published too many bytes";
    /// [`ComponentLimits::log_lines`].
    LogLines = "log-lines", "it logged too many lines";
    /// [`ComponentLimits::host_calls`].
    HostCalls = "host-calls", "it called the host too often";
    /// [`ComponentLimits::start_up`].
    StartUp = "start-up", "its start took too long";
    /// [`ComponentLimits::compute`].
    Compute = "compute", "its computing time is used up";
    /// [`ComponentLimits::run_time`].
    RunTime = "run-time", "its run time is over";
    /// [`ComponentLimits::shutdown_grace`].
    ShutdownGrace = "shutdown-grace", "it did not stop when asked to";
}

impl Limit {
    /// Returns `true` if exceeding the limit always ends the component, because there is no call to refuse.
    #[must_use]
    pub const fn always_ends(self) -> bool {
        matches!(
            self,
            Self::DepartedPerSubscription
                | Self::HostCalls
                | Self::StartUp
                | Self::Compute
                | Self::RunTime
                | Self::ShutdownGrace
        )
    }

    const fn number(self) -> u8 {
        self as u8 + 1
    }

    fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number.checked_sub(1)?)).copied()
    }
}

/// There is no limit of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no limit \"{0}\"; the limits are {names}", names = Limit::ALL.iter().map(|limit| limit.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownLimit(String);

impl FromStr for Limit {
    type Err = UnknownLimit;

    fn from_str(name: &str) -> Result<Self, UnknownLimit> {
        let found = Self::ALL.iter().find(|limit| limit.name() == name);
        found.copied().ok_or_else(|| UnknownLimit(name.to_owned()))
    }
}

/// The component ends because it exceeded this limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ended for exceeding a limit: {0}")]
pub(crate) struct LimitExceeded(pub(crate) Limit);

/// Records which limits a component exceeds, and decides whether to end it. All parts of one component's
/// state share it. Since only one thread uses it at a time, no memory ordering matters.
///
/// [`note`](Self::note) does not end the component by itself. The host function that returns to it calls
/// [`settle`](Self::settle).
#[derive(Clone, Debug)]
pub(crate) struct LimitPolicy(Arc<Excess>);

#[derive(Debug)]
struct Excess {
    end_at: Vec<Limit>,
    /// The limit that was noted but not settled yet. 0 if none.
    pending: AtomicU8,
    /// The limit for which the component ends. 0 if none.
    ending: AtomicU8,
    refusals: AtomicU64,
}

impl LimitPolicy {
    pub(crate) fn new(limits: &ComponentLimits) -> Self {
        Self(Arc::new(Excess {
            end_at: limits.end_at.clone(),
            pending: AtomicU8::new(0),
            ending: AtomicU8::new(0),
            refusals: AtomicU64::new(0),
        }))
    }

    /// Records that something is refused because of `limit`.
    pub(crate) fn note(&self, limit: Limit) {
        self.0.pending.store(limit.number(), Ordering::Relaxed);
    }

    /// Returns an error if the component ends because of the limit noted since the last call.
    ///
    /// # Errors
    /// The limit for which the component ends.
    pub(crate) fn settle(&self) -> Result<(), LimitExceeded> {
        let Some(limit) = Limit::of_number(self.0.pending.load(Ordering::Relaxed)) else { return Ok(()) };
        self.0.pending.store(0, Ordering::Relaxed);
        self.0.refusals.fetch_add(1, Ordering::Relaxed);
        if limit.always_ends() || self.0.end_at.contains(&limit) {
            self.0.ending.store(limit.number(), Ordering::Relaxed);
            return Err(LimitExceeded(limit));
        }
        Ok(())
    }

    /// The limit for which the component ends, if it does.
    pub(crate) fn ending(&self) -> Option<Limit> {
        Limit::of_number(self.0.ending.load(Ordering::Relaxed))
    }

    /// Number of refusals because of a limit.
    pub(crate) fn refusals(&self) -> u64 {
        self.0.refusals.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found_by_its_name_and_number() {
        for &limit in Limit::ALL {
            assert_eq!(limit.name().parse(), Ok(limit));
            assert_eq!(Limit::of_number(limit.number()), Some(limit));
        }
        let error = "hold".parse::<Limit>().expect_err("no limit");
        assert!(error.to_string().contains("\"hold\"") && error.to_string().contains("held, pool-share"));
    }

    #[test]
    fn exceeding_a_limit_refuses_or_ends_as_configured() {
        let limits = ComponentLimits { end_at: vec![Limit::Held], ..ComponentLimits::default() };
        let policy = LimitPolicy::new(&limits);
        policy.note(Limit::Attached);
        policy.settle().expect("refused only");
        assert_eq!((policy.ending(), policy.refusals()), (None, 1));
        policy.settle().expect("nothing new");
        policy.note(Limit::Held);
        policy.settle().expect_err("ends");
        assert_eq!((policy.ending(), policy.refusals()), (Some(Limit::Held), 2));
    }
}
