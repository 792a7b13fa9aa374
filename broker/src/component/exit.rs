//! How a guest ends, and why one cannot be loaded.

use std::fmt::{self, Write};
use std::io;
use std::path::PathBuf;

use blockcast_blocks::text;
use wasmtime::WasmBacktrace;

use crate::component::limit_policy::Limit;
use crate::host::wasm::loading::{CompilerError, LoadLimit};
use crate::host::wasm::state::{MAX_TEXT, line};

/// Longest name of a function or a module in a backtrace, in bytes.
const MAX_NAME: usize = 256;

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

    /// The end that the engine reports with `error`; `said` is what the guest left with `fail`.
    pub(crate) fn from_trap(error: &wasmtime::Error, said: Option<&str>) -> Self {
        let cause = error.root_cause().to_string();
        let cause = line(&cause);
        let message = match said {
            Some(said) if !said.is_empty() => format!("{said} ({cause})"),
            _ => cause.into_owned(),
        };
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
        Self::Trapped { message: line(&message).into_owned(), backtrace }
    }
}

/// The functions of a backtrace. The guest chooses their names.
fn frames(backtrace: &WasmBacktrace) -> String {
    let mut frames = String::from("error while executing at wasm backtrace:");
    for (number, frame) in backtrace.frames().iter().enumerate() {
        let module = frame.module().name().unwrap_or("<unknown>");
        let unnamed = format!("<wasm function {}>", frame.func_index());
        let function = frame.func_name().unwrap_or(&unnamed);
        let (module, function) = (text::line_within(module, MAX_NAME), text::line_within(function, MAX_NAME));
        let offset = frame.module_offset().unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(frames, "\n{number:>5}: {offset:#8x} - {module}!{function}");
    }
    text::lines_within(&frames, MAX_TEXT).into_owned()
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

/// Why a guest cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no such file.
    #[error("there is no guest at {path}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file exists and cannot be read.
    #[error("the guest at {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is larger than what is compiled.
    #[error(
        "{guest} has {bytes} bytes, and {most} are accepted at most; if you trust it, raise the load limit `bytes`"
    )]
    TooLarge {
        /// Which guest.
        guest: String,
        /// Its size.
        bytes: u64,
        /// The largest that is accepted.
        most: u64,
    },
    /// It asks more of the compiler than it may.
    #[error("{guest}: {}{value} {limit}, and {most} are accepted at most; \
             if you trust it, raise the load limit `{}`", place(*.function), limit.name())]
    TooComplex {
        /// Which guest.
        guest: String,
        /// The limit that it exceeds.
        limit: LoadLimit,
        /// What it has, or the first value beyond the limit that was found.
        value: u64,
        /// The most that is accepted.
        most: u64,
        /// Which function: its number among those that the modules define, in the order of the file.
        function: Option<u64>,
    },
    /// It could not be compiled in a child process.
    #[error("{guest} cannot be compiled: {reason}")]
    Compiler {
        /// Which guest.
        guest: String,
        /// Why.
        reason: CompilerError,
    },
    /// The bytes are not wasm.
    #[error("{guest} is not a wasm file")]
    NotWasm {
        /// Which guest.
        guest: String,
    },
    /// A core module without the memory that the host needs, or with others.
    #[error("{guest} does not export one memory as `memory`: {reason}")]
    NoMemory {
        /// Which guest.
        guest: String,
        /// What it has instead.
        reason: String,
    },
    /// A component or module that is damaged or uses what this version does not support.
    #[error("{guest} is not a valid wasm {kind}: {reason}")]
    Invalid {
        /// Which guest.
        guest: String,
        /// `component` or `module`.
        kind: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// It needs something that the broker does not provide.
    #[error("{guest} imports {import}, which the broker does not provide{}", advice(import))]
    UnknownImport {
        /// Which guest.
        guest: String,
        /// The first import that is unknown.
        import: String,
    },
    /// It was built against another version of the interface.
    #[error("{guest} does not fit the broker's interface: {reason}")]
    Mismatch {
        /// Which guest.
        guest: String,
        /// Which import or export differs, and how.
        reason: String,
    },
    /// It has no `run`, or one of another type.
    #[error("{guest} does not export `run: func() -> u32`: {reason}")]
    NoRun {
        /// Which guest.
        guest: String,
        /// What it has instead.
        reason: String,
    },
}

/// What can be done about an import that is unknown.
fn advice(import: &str) -> &'static str {
    const INTERFACE: &str = ": guests may import the interfaces of `blockcast:blocks`";
    match import.split_once("::") {
        Some(("wasi_snapshot_preview1" | "wasi_unstable", _)) => {
            ": it is a program for WASI preview 1; compile it for wasm32-wasip2, or make a component of it with \
             `wasm-tools component new --adapt`"
        }
        Some(("env", "abort" | "trace" | "seed")) => {
            ": AssemblyScript imports it by default; compile with `--use abort=` (likewise `trace`, `seed`), or define \
             the function yourself"
        }
        Some(("env", _)) => {
            ": it is a function that the program declares and does not define; link what defines it, or remove the call"
        }
        Some(("wbg" | "__wbindgen_placeholder__", _)) => {
            ": it was built for JavaScript with wasm-bindgen; build without wasm-bindgen"
        }
        Some(("go" | "gojs", _)) => ": it was built for JavaScript; build with TinyGo for wasip2",
        None if import.starts_with("wasi:") => {
            ": of WASI there are cli, clocks, io and random (version 0.2, feature `wasi`); build the guest without the rest"
        }
        _ => INTERFACE,
    }
}

/// Where a limit is exceeded.
fn place(function: Option<u64>) -> String {
    function.map_or_else(|| "it has ".to_owned(), |number| format!("function {number} has "))
}
