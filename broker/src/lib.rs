//! Topics, admission, grants, statistics and the hosts of Blockcast: of wasm guests, and of native libraries.
//!
//! The broker is the control plane: it brings publishers and subscribers together and runs components. A
//! message goes from a publisher's block to its subscribers without it.
//!
//! ```
//! use blockcast_blocks::Pod;
//! use blockcast_broker::Broker;
//!
//! let broker = Broker::new();
//! let mut subscriber = broker.subscriber::<Pod<u32>>("numbers", Default::default())?;
//! let mut publisher = broker.publisher::<Pod<u32>>("numbers", Default::default())?;
//! publisher.try_loan()?.send(&[1, 2, 3][..])?;
//! assert_eq!(subscriber.try_recv_ref()?.view(), [1, 2, 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Fork, signals and limits of the process
//! A child that is [forked](blockcast_blocks#after-a-fork) has none of the broker's threads: everything of an inherited broker returns
//! `Forked`, its components are [`Ended`](ComponentState::Ended) there, and dropping it ends nothing. Make another broker in the child.
//!
//! Guests' faults come as signals (`SIGSEGV`, `SIGILL`, `SIGFPE`). Handlers of the program's own are to be installed before the
//! first guest is loaded, so that the engine passes on to them what is not a guest's; a later one has to pass on the rest to the
//! engine's. Threads that run guests unblock these signals.
//!
//! The broker refuses components while the process has few memory mappings left: see
//! [`reserve_mappings`](blockcast_blocks::reserve_mappings).
//!
//! # Crates that do the work
//! `wasmtime` runs guests; `tokio` gives each component a task and a timer; `flume` is the mailbox through
//! which a subscription learns of new publishers; `crossbeam-epoch` guards the set of subscribers that a
//! publisher wakes; `blake3` seals compiled guests; `libloading` loads native
//! libraries, and `object` reads their files before; `wasmtime-wasi` serves programs, with the feature `wasi`; `tracing` tells of
//! joins, refusals and ends.

mod broker;
mod component;
mod expectation;
mod file;
mod granted;
mod grants;
pub mod guest;
pub mod library;
mod linked;
mod restart;
mod session;
mod stats;
mod supervision;
mod topic;

pub use blockcast_blocks::{ArenaMemory, MemoryError, OpenError};
pub use broker::{Broker, StartError};
pub use component::{Component, ComponentOptions};
pub use grants::Grants;
pub use guest::{
    CacheError, CacheStats, GuestCache, GuestEngine, PrecompiledError, UnknownWasiPart, WasiPart,
};
pub use guest::{
    CompilerError, CompilerProcess, LoadLimit, LoadLimits, LoadOptions, UnknownLoadLimit, compile_child_main,
};
pub use guest::{
    ExitReason, GuestLimits, GuestProgram, GuestReport, GuestSource, GuestStats, Isolation, Level, Limit,
    LoadError, LogSink, OnExcess, Rate, Validator,
};
pub use library::{LibraryError, LibraryFile, LibraryProgram};
pub use linked::{AppOutcome, Async, Blocking};
pub use restart::{Restart, RestartPolicy};
pub use session::{Session, Sleep};
pub use stats::{Departed, TopicStats};
pub use supervision::{ComponentState, Exit};
