//! How a component ends: [`ExitReason`] and [`ComponentReport`].

use std::fmt;

use blockcast_blocks::text;

use crate::component::limit_policy::Limit;
use crate::component::stats::ComponentStats;

/// How a run of a component went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentReport {
    /// Why it ended.
    pub reason: ExitReason,
    /// What it did.
    pub stats: ComponentStats,
}

/// Why a guest has ended. Whatever the reason, everything that it held is released by then.
///
/// Texts that a component chooses (what it says about its end, names of its functions) are at most 8 KiB long each, with
/// invisible characters [escaped](blockcast_blocks::text::line).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// Its `run` returned 0.
    Finished,
    /// Its `run` returned 1, with the text given to `session.fail`.
    Failed(String),
    /// It did what wasm does not allow, or panicked.
    Trapped {
        /// What happened, and what the guest itself said about it.
        message: String,
        /// Where: the guest's functions, innermost first, one per line. May be empty.
        backtrace: String,
    },
    /// It wrote to a block that it may only read. Nobody else has seen the write.
    ReadOnlyViolation {
        /// The topic of the block. Empty for a memory block of the guest's own.
        topic: String,
        /// Where the first such write was, in bytes from the start of the topic's arena, or of the attached part of the
        /// memory block.
        ///
        /// This is one of the bytes that the write covers and that the guest may only read, but not necessarily the
        /// first of them: the processor and the C library choose the order in which they write several bytes. It helps
        /// to find the mistake and must not be compared with an exact number.
        offset: u64,
    },
    /// It was ended for exceeding a limit.
    Killed(Limit),
    /// It was ended because its owner asked for it, before it had finished on its own.
    Cancelled,
    /// It is native code that was told to end, or has returned, and one of its threads goes on when its
    /// [grace](crate::component::limits::ComponentLimits::shutdown_grace) is over: the text says which. It cannot be ended. Its subscriptions and
    /// publishers are closed, but the library stays loaded and the blocks that it had stay where they are: they are given
    /// back once its threads are gone. It is not restarted, so it never has more of them than its limits allow.
    Abandoned(String),
    /// It could not be started: the text says why.
    NotStarted(String),
    /// The system refused what the host needed to go on with it.
    System(String),
    /// Code of the program that runs the broker failed on its behalf: a log sink or a validator panicked, and the text says
    /// so with the message.
    HostPanicked(String),
    /// It has not ended: [`Component::wait`](crate::Component::wait) was called in a task of the current-thread runtime that
    /// runs the component, which would never have ended there. Await [`Component::ended`](crate::Component::ended) instead.
    StillRunning,
}

impl ExitReason {
    /// Whether the guest ended as its author intended.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Finished)
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed(text) => write!(f, "failed: {text}"),
            Self::Trapped { message, .. } => write!(f, "trapped: {message}"),
            Self::ReadOnlyViolation { topic, offset } if topic.is_empty() => {
                write!(
                    f,
                    "wrote to a memory block that is attached for reading (byte {offset} of the attached part)"
                )
            }
            Self::ReadOnlyViolation { topic, offset } => {
                let topic = text::line(topic);
                write!(f, "wrote to a read-only block of topic \"{topic}\" (byte {offset} of its arena)")
            }
            Self::Killed(limit) => write!(f, "ended: {limit}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Abandoned(why) => write!(f, "abandoned, as it goes on: {why}"),
            Self::NotStarted(text) => write!(f, "not started: {text}"),
            Self::System(text) => write!(f, "ended: {text}"),
            Self::HostPanicked(text) => write!(f, "ended: the program that runs it {text}"),
            Self::StillRunning => f.write_str(
                "still running: this thread runs the component, so waiting for it here would never end; await \
                 `Component::ended` instead",
            ),
        }
    }
}
