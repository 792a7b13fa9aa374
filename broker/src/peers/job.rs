//! [`Job`], [`Outcome`] and [`Tally`]: a component that a process runs for its host, and how it ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::component::exit::ExitReason;
use crate::component::limit_policy::Limit;
use crate::component::limits::{ComponentLimits, Rate};
use crate::component::stats::ComponentStats;
use crate::file;
use crate::hosting::log::line;

/// Maximum size of a job in bytes: more parameters than the system accepts as arguments.
const MAX_JOB: u64 = 16 << 20;

/// A component to run. It is passed in a file of its own, since parameters may exceed a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The component's name.
    pub(crate) name: String,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) await_restarts: bool,
    /// The limits that hosts of native libraries enforce.
    limits: LibraryLimits,
}

impl Job {
    pub(crate) fn new(
        name: &str,
        parameters: &BTreeMap<String, String>,
        await_restarts: bool,
        limits: &ComponentLimits,
    ) -> Self {
        let (name, parameters) = (name.to_owned(), parameters.clone());
        Self { name, parameters, await_restarts, limits: LibraryLimits::of(limits) }
    }

    /// The limits of a native library in the process. The host enforces those on time and on the log.
    pub(crate) fn limits(&self) -> ComponentLimits {
        self.limits.limits()
    }

    /// Writes the job to a new file.
    ///
    /// # Errors
    /// If the job is too large, or the system has no memory.
    pub(crate) fn to_file(&self) -> io::Result<OwnedFd> {
        let bytes = postcard::to_stdvec(self).map_err(io::Error::other)?;
        if bytes.len() as u64 > MAX_JOB {
            let (bytes, most) = (bytes.len(), MAX_JOB);
            let text =
                format!("name and parameters take {bytes} bytes, more than the {most} that are passed");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        file::check_size(bytes.len() as u64)?;
        let mut file: File = rustix::fs::memfd_create("blockcast-job", MemfdFlags::CLOEXEC)?.into();
        file.write_all(&bytes)?;
        Ok(file.into())
    }

    /// # Errors
    /// If the file is not a job.
    pub(crate) fn from_file(file: OwnedFd) -> io::Result<Self> {
        let mut file = File::from(file);
        // Descriptors of one file share the position.
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(MAX_JOB).read_to_end(&mut bytes)?;
        postcard::from_bytes(&bytes).map_err(io::Error::other)
    }
}

/// The [`ComponentLimits`] that hosts of native libraries enforce, except for those on time and on the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LibraryLimits {
    subscriptions: u32,
    subscriptions_per_topic: u32,
    publishers: u32,
    publisher_bytes: u64,
    departed_publishers: u32,
    departed_per_subscription: u32,
    loans: u32,
    memory_blocks: u32,
    memory_block_bytes: u64,
    topics: u32,
    attached: u32,
    held: u32,
    pool_share: u32,
    back_pressure: bool,
    /// Number per second, and burst.
    publish_messages: Option<(u64, u64)>,
    publish_bytes: Option<(u64, u64)>,
    host_calls: Option<(u64, u64)>,
    /// Names of limits.
    end_at: Vec<String>,
}

impl LibraryLimits {
    fn of(limits: &ComponentLimits) -> Self {
        let rate = |rate: Option<Rate>| rate.map(|rate| (rate.per_second, rate.burst));
        Self {
            subscriptions: limits.subscriptions,
            subscriptions_per_topic: limits.subscriptions_per_topic,
            publishers: limits.publishers,
            publisher_bytes: limits.publisher_bytes,
            departed_publishers: limits.departed_publishers,
            departed_per_subscription: limits.departed_per_subscription,
            loans: limits.loans,
            memory_blocks: limits.memory_blocks,
            memory_block_bytes: limits.memory_block_bytes,
            topics: limits.topics,
            attached: limits.attached,
            held: limits.held,
            pool_share: limits.pool_share,
            back_pressure: limits.back_pressure,
            publish_messages: rate(limits.publish_messages),
            publish_bytes: rate(limits.publish_bytes),
            host_calls: rate(limits.host_calls),
            end_at: limits.end_at.iter().map(|limit| limit.name().to_owned()).collect(),
        }
    }

    fn limits(&self) -> ComponentLimits {
        let rate = |rate: Option<(u64, u64)>| rate.map(|(per_second, burst)| Rate { per_second, burst });
        ComponentLimits {
            subscriptions: self.subscriptions,
            subscriptions_per_topic: self.subscriptions_per_topic,
            publishers: self.publishers,
            publisher_bytes: self.publisher_bytes,
            departed_publishers: self.departed_publishers,
            departed_per_subscription: self.departed_per_subscription,
            loans: self.loans,
            memory_blocks: self.memory_blocks,
            memory_block_bytes: self.memory_block_bytes,
            topics: self.topics,
            attached: self.attached,
            held: self.held,
            pool_share: self.pool_share,
            back_pressure: self.back_pressure,
            publish_messages: rate(self.publish_messages),
            publish_bytes: rate(self.publish_bytes),
            host_calls: rate(self.host_calls),
            log_lines: Rate::per_second(u64::MAX),
            // The host enforces these.
            start_up: FOREVER,
            shutdown_grace: FOREVER,
            end_at: self.end_at.iter().filter_map(|name| name.parse().ok()).collect(),
            ..ComponentLimits::default()
        }
    }
}

/// Longer than any process lives, and far from what clocks can count.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How a component ended, as its process reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Finished,
    Failed(String),
    Trapped(String),
    Cancelled,
    NotStarted(String),
    /// It has exceeded the limit with this name.
    Killed(String),
    Other(String),
}

impl Outcome {
    pub(crate) fn of(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::Finished => Self::Finished,
            ExitReason::Failed(why) => Self::Failed(why.clone()),
            ExitReason::Trapped { message, .. } => Self::Trapped(message.clone()),
            ExitReason::Cancelled => Self::Cancelled,
            ExitReason::NotStarted(why) => Self::NotStarted(why.clone()),
            ExitReason::Killed(limit) => Self::Killed(limit.name().to_owned()),
            // Its process is about to end, and with it the threads that were left behind.
            ExitReason::Abandoned(why) => Self::Other(why.clone()),
            other => Self::Other(other.to_string()),
        }
    }

    /// Returns the reason for the end. The process may have sent any text.
    pub(crate) fn reason(self) -> ExitReason {
        let text = |text: String| line(&text).into_owned();
        match self {
            Self::Finished => ExitReason::Finished,
            Self::Failed(why) => ExitReason::Failed(text(why)),
            Self::Trapped(message) => {
                ExitReason::Trapped { message: text(message), backtrace: String::new() }
            }
            Self::Cancelled => ExitReason::Cancelled,
            Self::NotStarted(why) => ExitReason::NotStarted(text(why)),
            Self::Killed(limit) => match limit.parse::<Limit>() {
                Ok(limit) => ExitReason::Killed(limit),
                Err(error) => ExitReason::Failed(text(error.to_string())),
            },
            Self::Other(why) => ExitReason::Failed(text(why)),
        }
    }
}

/// The counters of a component, as its own process counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) lost: u64,
    pub(crate) published: u64,
    pub(crate) published_bytes: u64,
    pub(crate) publish_copied_bytes: u64,
    pub(crate) host_calls: u64,
    pub(crate) refusals: u64,
    pub(crate) subscriptions: u32,
    pub(crate) publishers: u32,
    pub(crate) attached: u32,
    pub(crate) held: u32,
}

impl Tally {
    /// The counters of a library that the process runs.
    pub(crate) fn of(stats: &ComponentStats) -> Self {
        Self {
            received: stats.received,
            received_bytes: stats.received_bytes,
            lost: stats.lost,
            published: stats.published,
            published_bytes: stats.published_bytes,
            publish_copied_bytes: stats.publish_copied_bytes,
            host_calls: stats.host_calls,
            refusals: stats.refusals,
            subscriptions: stats.subscriptions,
            publishers: stats.publishers,
            attached: stats.attached,
            held: stats.held,
        }
    }

    /// The counters as statistics of the component.
    pub(crate) fn stats(self) -> ComponentStats {
        ComponentStats {
            received: self.received,
            received_bytes: self.received_bytes,
            lost: self.lost,
            published: self.published,
            published_bytes: self.published_bytes,
            publish_copied_bytes: self.publish_copied_bytes,
            host_calls: self.host_calls,
            refusals: self.refusals,
            subscriptions: self.subscriptions,
            publishers: self.publishers,
            attached: self.attached,
            held: self.held,
            ..ComponentStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_arrives_with_the_limits_that_libraries_keep() {
        let mut limits = ComponentLimits { held: 7, back_pressure: false, ..ComponentLimits::default() };
        limits.publish_bytes = Some(Rate::per_second(9).burst(11));
        limits.end_at = vec![Limit::Held, Limit::Loans];
        let parameters = BTreeMap::from([("text".to_owned(), "x".repeat(100_000))]);
        let job = Job::new("name", &parameters, true, &limits);
        let file = job.to_file().expect("there is memory");
        let copy = file.try_clone().expect("a descriptor is left");
        for file in [file, copy] {
            let arrived = Job::from_file(file).expect("it is a job");
            assert_eq!(arrived, job);
            let arrived = arrived.limits();
            assert_eq!((arrived.held, arrived.back_pressure), (7, false));
            assert_eq!(
                (arrived.publish_bytes, arrived.end_at),
                (limits.publish_bytes, limits.end_at.clone())
            );
        }
    }

    #[test]
    fn a_job_that_is_too_large_is_refused() {
        let parameters = BTreeMap::from([("text".to_owned(), "x".repeat(MAX_JOB as usize))]);
        let error = Job::new("name", &parameters, false, &ComponentLimits::default()).to_file();
        assert!(error.expect_err("too large").to_string().contains("16777216"));
    }

    #[test]
    fn outcomes_of_apps_keep_their_reason() {
        let trapped = ExitReason::Trapped { message: "panicked".to_owned(), backtrace: String::new() };
        let reasons = [
            ExitReason::Finished,
            ExitReason::Failed("why".to_owned()),
            trapped,
            ExitReason::Cancelled,
            ExitReason::NotStarted("why".to_owned()),
            ExitReason::Killed(Limit::Held),
        ];
        for reason in reasons {
            assert_eq!(Outcome::of(&reason).reason(), reason);
        }
        let limit = Outcome::Killed("no\nlimit".to_owned()).reason();
        assert!(matches!(&limit, ExitReason::Failed(why) if !why.contains('\n')), "{limit:?}");
    }
}
