//! Wasm guests: components that publish and subscribe in a sandbox, and read messages without a copy.
//!
//! ```text
//!  GuestSource ── load ──▶ GuestProgram ── run(GuestSetup) ──▶ ComponentReport { reason, stats }
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
//! - `program` loads and checks a guest, `loading` bounds what its code may ask of the compiler, and `cache`
//!   stores compiled code on disk;
//! - `engine` is shared by all guests, `run` drives one guest and cleans up after it, and `state` holds its
//!   data;
//! - `abi` passes values across the boundary, and `functions` defines the functions that a guest imports (see
//!   `wit/`);
//! - `memory` allocates linear memories, maps arenas into them and survives stores into read-only windows;
//! - `blocks`, `subscription` and `publisher` implement the resources that a guest opens;
//! - `wasi` serves ordinary programs that were granted parts of WASI.
//!
//! Services that native libraries share, such as deliveries and limits, are in `hosting` and `component`.
//!
//! # How a guest is linked
//! | a guest is | made by | a call into the host |
//! | --- | --- | --- |
//! | a component that exports `run` | a compiler for `wasm32-unknown-unknown` and `wasm-component-ld`, or `wasm-tools component new` | 47 ns |
//! | a core module that exports `run` and `memory` | the same without the last step, or a C compiler | 6 ns |
//! | a component that exports `wasi:cli/run` (feature `wasi`) | a compiler for `wasm32-wasip2` | 47 ns |
//!
//! [`GuestProgram::load`] detects the kind of a guest. All kinds import the same functions and follow the
//! same rules, with the same consequences; [`WasiPart`](crate::WasiPart) lists the available parts of WASI.
//! The table shows the cost of a call that does nothing (`cargo run --release -p blockcast-broker --example
//! guest_cost`, best of 5 rounds on a busy machine with 2 cores). A `poll` that finds nothing costs 172 ns
//! from a component and 51 ns from a core module; publishing 64 bytes costs 155 and 54 ns. A batch of
//! messages takes one call. So a core module pays off for guests that receive few messages at a time, or
//! publish small ones.
//!
//! Compiling takes most of a guest's start. With [`GuestEngine::with_cache`], a guest is compiled once and
//! then loaded from a folder whose files are sealed against changes ([`GuestCache`]).
//!
//! # What a guest can do to others
//! Nothing beyond its limits. It reads the arenas of topics that it was granted, and occupies blocks until it
//! releases them. With [`Isolation::Arena`](crate::Isolation::Arena) it sees whole arenas, including messages
//! of the same publishers that were not delivered to it. A guest that traps, loops, writes to read-only
//! memory, exceeds a limit or is cancelled ends with an [`ExitReason`](crate::ExitReason) and loses
//! everything that it held. The process and the other participants continue.

pub(crate) mod abi;
pub(crate) mod blocks;
pub(crate) mod cache;
mod config;
pub(crate) mod engine;
mod functions;
pub(crate) mod idle_yield;
pub(crate) mod load_options;
pub(crate) mod loading;
pub(crate) mod memory;
pub(crate) mod program;
pub(crate) mod publisher;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod signals;
pub(crate) mod state;
pub(crate) mod subscription;
pub(crate) mod sys;
pub(crate) mod thread;
mod ticker;
pub(crate) mod trap;
pub(crate) mod wasi;

pub(crate) use signals::check as check_signals;
pub(crate) use thread::prepare as prepare_thread;

pub use cache::{CacheError, CacheStats, GuestCache, PrecompiledError};
pub use engine::{EngineError, GuestEngine};
pub use load_options::LoadOptions;
pub use loading::{
    CompilerError, CompilerProcess, LoadError, LoadLimit, LoadLimits, UnknownLoadLimit, compile_child_main,
};
pub use program::{GuestProgram, GuestSource};
pub use setup::GuestSetup;
