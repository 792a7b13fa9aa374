//! How a component ends: [`ExitReason`] and [`ComponentReport`].

use std::fmt;

use blockcast_blocks::text;

use crate::component::limit_policy::Limit;
use crate::component::stats::ComponentStats;

/// How a run of a component ended, and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentReport {
    /// Why the run ended.
    pub reason: ExitReason,
    /// The run's counters.
    pub stats: ComponentStats,
}

/// Why a component ended. Unless the variant says otherwise, everything that the component held has been
/// released.
///
/// Texts that a component chooses (its error, the names of its functions) have at most 8 KiB each, with
/// invisible characters [escaped](blockcast_blocks::text::line).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// Its `run` succeeded: it returned 0.
    Finished,
    /// Its `run` failed: it returned 1, after it had passed this text to `session.fail`.
    Failed(String),
    /// It panicked, or did something that wasm does not allow.
    Trapped {
        /// What happened, including the component's own message.
        message: String,
        /// A guest's call stack: one function per line, innermost first. May be empty.
        backtrace: String,
    },
    /// It wrote to a block that it may only read. Nobody else saw the write.
    ReadOnlyViolation {
        /// The block's topic. Empty for one of the guest's own memory blocks.
        topic: String,
        /// Position of the first such write, in bytes from the start of the topic's arena or of the attached
        /// part of the memory block.
        ///
        /// This is one of the read-only bytes that the write covers, but not necessarily the first: the
        /// processor and the C library choose the order in which they write several bytes. Use it to find the
        /// mistake, but do not rely on the exact number.
        offset: u64,
    },
    /// It was ended because it exceeded a limit.
    Killed(Limit),
    /// Its owner cancelled it before it finished on its own.
    Cancelled,
    /// It is native code with a thread that was still running after the
    /// [grace period](crate::component::limits::ComponentLimits::shutdown_grace). The text says why it had to
    /// end.
    ///
    /// Native code cannot be forced to end. Its subscriptions and publishers are closed, but its library
    /// stays loaded and it keeps its blocks until its threads are gone. It is not restarted, so that it never
    /// holds more blocks than its limits allow.
    Abandoned(String),
    /// A signal that did not come from its host ended its process: it has crashed, or was killed.
    Signalled {
        /// Number of the signal.
        signal: i32,
    },
    /// It could not be started. The text says why.
    NotStarted(String),
    /// The system refused something that the host needed to continue running it.
    System(String),
    /// The program that runs the broker failed: a log sink or a validator panicked while it served this
    /// component. The text contains the panic message.
    HostPanicked(String),
    /// It has not ended. [`Component::wait`](crate::Component::wait) was called in a task of the
    /// current-thread runtime that runs the component, and would never have returned. Await
    /// [`Component::ended`](crate::Component::ended) instead.
    StillRunning,
}

impl ExitReason {
    /// Returns `true` if the component finished successfully.
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
            Self::Abandoned(why) => write!(f, "abandoned because it is still running: {why}"),
            Self::Signalled { signal } => match signal_name(*signal) {
                Some(name) => write!(f, "ended by signal {signal} ({name})"),
                None => write!(f, "ended by signal {signal}"),
            },
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

/// The names of the signals that end processes most often.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}
