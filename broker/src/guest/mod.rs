//! Wasm guests: components that publish and subscribe in a sandbox, without a copy of what they read.
//!
//! ```text
//!  GuestSource ── load ──▶ GuestProgram ── run(GuestSetup) ──▶ GuestReport { reason, stats }
//!                              │                 │
//!                          GuestEngine       one store per run
//!                     (compiler, linker,   ┌─────┴──────────────────────────────────────────┐
//!                      epoch ticker)       │ GuestState: subscriptions, publishers, windows │
//!                                          │ GuestMemory: where its linear memory lies      │
//!                                          │ WindowTable: read-only windows, seen by the    │
//!                                          │              fault handler                     │
//!                                          └────────────────────────────────────────────────┘
//! ```
//!
//! - `memory` allocates linear memories, so that the broker knows where they lie;
//! - `window` maps arenas into them, into address space that the guest has donated;
//! - `fault` survives writes into those windows and tells who did it;
//! - `view` shows a guest of strict [`Isolation`] what it is attached to and nothing else, or copies it;
//! - `blocks` keeps the memory blocks that a guest has made or was lent, `storage` the rules of who may be attached to one;
//! - `subscription` and `publisher` stand behind the resources that a guest opens, `deliveries` and `kept` count what was delivered and is
//!   kept of it, wherever the `space` shows it, and `output` what is published: these also stand behind native libraries; `host` and `block_calls`
//!   are the functions that it imports (see `wit/`), `exchange` what they need of the broker;
//! - `limits` says what a guest may use, `meter` counts what it uses, `account` what its publishers' channels take, `excess` decides
//!   what comes of too much;
//! - `link` puts one definition of each host function behind the imports of components and of core modules (`module`,
//!   `canonical`, `handles`);
//! - `wasi` is what ordinary programs get beside it, where they are granted it;
//! - `loading` bounds what a guest's code may ask of the compiler, and compiles it in this process or in a child;
//! - `program` loads and checks a guest, `compiled` keeps what was compiled on disk, `run` drives it and cleans up, `exit` says how it went.
//!
//! # How a guest is linked
//! | a guest is | made by | a call into the host |
//! | --- | --- | --- |
//! | a component that exports `run` | a compiler for `wasm32-unknown-unknown` and `wasm-component-ld`, or `wasm-tools component new` | 47 ns |
//! | a core module that exports `run` and `memory` | the same without the last step, or a C compiler | 6 ns |
//! | a component that exports `wasi:cli/run` (feature `wasi`) | a compiler for `wasm32-wasip2` | 47 ns |
//!
//! [`GuestProgram::load`] tells them apart. They import the same functions, and what becomes of a guest that breaks a rule is the
//! same; [`WasiPart`] says what there is of WASI. The figures are those of a call that does nothing
//! (`cargo run --release -p blockcast-broker --example guest_cost`, best of 5 rounds on a busy machine with 2 cores): a `poll` that finds nothing
//! costs 172 ns from a component and 51 ns from a core module, publishing 64 bytes 155 and 54 ns. A batch of messages takes one
//! call, so a core module pays for guests that are given few messages at a time, or publish small ones.
//!
//! Compiling takes most of a guest's start: with [`GuestEngine::with_cache`] a guest is compiled once, and from then on
//! taken from a folder whose files are sealed against changes ([`GuestCache`]).
//!
//! # What a guest can do to others
//! Nothing, beyond what its limits allow: it reads the arenas of topics that it was granted (with [`Isolation::Arena`] whole
//! arenas, so also messages of the same publishers that were not delivered to it), and occupies blocks until it releases them. A guest that
//! traps, loops, writes where it may only read, exceeds a limit or is cancelled ends with an [`ExitReason`], and with
//! it everything that it held. The process and the other participants go on.

pub(crate) mod abi;
pub(crate) mod account;
mod block_calls;
mod blocks;
mod canonical;
mod clock;
mod compiled;
mod control;
pub(crate) mod deliveries;
mod engine;
pub(crate) mod excess;
mod exchange;
mod exit;
mod fault;
mod handles;
pub(crate) mod host;
mod isolation;
pub(crate) mod kept;
mod limits;
mod link;
mod loading;
mod lull;
mod memory;
pub(crate) mod meter;
mod module;
pub(crate) mod output;
mod program;
mod publisher;
mod run;
pub(crate) mod signals;
pub(crate) mod space;
pub(crate) mod state;
mod stats;
pub(crate) mod storage;
mod subscription;
mod sys;
pub(crate) mod thread;
mod view;
mod wasi;
mod window;

pub use abi::Level;
pub use compiled::{CacheError, CacheStats, GuestCache, PrecompiledError};
pub use control::GuestControl;
pub use engine::{EngineError, GuestEngine};
pub use excess::{Limit, OnExcess, UnknownLimit};
pub use exchange::{BlockOptions, Checks, Exchange, Feed, Outlet, Refusal, Validator};
pub use exit::{ExitReason, LoadError};
pub use isolation::Isolation;
pub use limits::{GuestLimits, Rate};
pub use loading::{
    CompilerError, CompilerProcess, LoadLimit, LoadLimits, LoadOptions, UnknownLoadLimit, compile_child_main,
};
pub use program::{GuestProgram, GuestSource};
pub use run::GuestReport;
pub use state::{GuestSetup, LogSink};
pub use stats::GuestStats;
pub(crate) use sys::check_file_size;
pub use wasi::{UnknownWasiPart, WasiPart};
