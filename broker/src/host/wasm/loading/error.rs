//! Why a guest cannot be loaded: [`LoadError`].

use std::io;
use std::path::PathBuf;

use super::compiler::CompilerError;
use super::limits::LoadLimit;

/// Why a guest cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no such file.
    #[error("there is no guest at {path}")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The file exists and cannot be read.
    #[error("the guest at {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The code is larger than accepted.
    #[error(
        "{guest} has {bytes} bytes, and {most} are accepted at most; if you trust it, raise the load limit `bytes`"
    )]
    TooLarge {
        /// Name of the guest.
        guest: String,
        /// Its size.
        bytes: u64,
        /// The largest accepted size.
        most: u64,
    },
    /// The code asks more of the compiler than it may.
    #[error("{guest}: {}{value} {limit}, and {most} are accepted at most; \
             if you trust it, raise the load limit `{}`", place(*.function), limit.name())]
    TooComplex {
        /// Name of the guest.
        guest: String,
        /// The exceeded limit.
        limit: LoadLimit,
        /// The guest's value, or the first one found beyond the limit.
        value: u64,
        /// The largest accepted value.
        most: u64,
        /// The function's number among those that the modules define, in the order of the file.
        function: Option<u64>,
    },
    /// Compiling in a child process failed.
    #[error("{guest} cannot be compiled: {reason}")]
    Compiler {
        /// Name of the guest.
        guest: String,
        /// The reason.
        reason: CompilerError,
    },
    /// The bytes are not wasm.
    #[error("{guest} is not a wasm file")]
    NotWasm {
        /// Name of the guest.
        guest: String,
    },
    /// The guest is WebAssembly text, and the broker was built without the feature `wat`.
    #[error(
        "{guest} is WebAssembly text, which this program cannot read: \
             convert it (`wasm-tools parse`), or build the program with the feature `wat` of blockcast"
    )]
    Text {
        /// Name of the guest.
        guest: String,
    },
    /// A core module does not export exactly one suitable memory.
    #[error("{guest} does not export one memory as `memory`: {reason}")]
    NoMemory {
        /// Name of the guest.
        guest: String,
        /// Describes what it exports instead.
        reason: String,
    },
    /// A component or module is damaged, or uses features that this version does not support.
    #[error("{guest} is not a valid wasm {kind}: {reason}")]
    Invalid {
        /// Name of the guest.
        guest: String,
        /// `component` or `module`.
        kind: &'static str,
        /// The mistake, and its place.
        reason: String,
    },
    /// The guest needs something that the broker does not provide.
    #[error("{guest} imports {import}, which the broker does not provide{}", advice(import))]
    UnknownImport {
        /// Name of the guest.
        guest: String,
        /// The first unknown import.
        import: String,
    },
    /// The guest was built against another version of the interface.
    #[error("{guest} does not fit the broker's interface: {reason}")]
    Mismatch {
        /// Name of the guest.
        guest: String,
        /// Which import or export differs, and how.
        reason: String,
    },
    /// The guest has no `run`, or one of a different type.
    #[error("{guest} does not export `run: func() -> u32`: {reason}")]
    NoRun {
        /// Name of the guest.
        guest: String,
        /// Describes what it exports instead.
        reason: String,
    },
}

/// Returns advice about an unknown import.
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

/// The place where a limit is exceeded.
fn place(function: Option<u64>) -> String {
    function.map_or_else(|| "it has ".to_owned(), |number| format!("function {number} has "))
}
