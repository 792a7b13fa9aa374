//! Topics, grants, statistics, and the components of Blockcast with their hosts.
//!
//! The broker is the control plane: it brings publishers and subscribers together and runs components.
//! Messages do not pass through it: they go from a publisher's block directly to the subscribers.
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
//! # Fork, signals and process limits
//! A [forked](blockcast_blocks#after-a-fork) child has none of the broker's threads. In the child, every
//! operation of an inherited broker returns `Forked`, its components count as
//! [`Ended`](ComponentState::Ended), and dropping it ends nothing. Create another broker in the child.
//!
//! Guests' faults arrive as signals (`SIGSEGV`, `SIGILL`, `SIGFPE`). If your program has its own handlers,
//! install them before the first guest is loaded, so that the engine passes on all signals that do not belong
//! to a guest. A handler that is installed later must pass on all signals that it does not handle
//! itself to the engine's handler. Threads that run guests unblock these signals.
//!
//! The broker refuses components if the process has few memory mappings left: see
//! [`reserve_mappings`](blockcast_blocks::reserve_mappings).
//!
//! # Other processes
//! A broker [serves](Broker::serve) its topics to other processes of the machine, which
//! [connect](Connection::connect) to it.
//!
//! # Dependencies
//! `wasmtime` runs guests. `tokio` gives each component a task and a timer. `crossbeam-epoch` guards the set
//! of subscribers that a publisher wakes. `blake3` seals compiled guests. `libloading` loads native
//! libraries, and `object` reads their files first. `postcard` and `serde` encode what processes say to each
//! other. `landlock` and `seccompiler` confine processes. `wasmtime-wasi` provides WASI, with the feature
//! `wasi`. `tracing` reports joins, refusals and exits.

#![cfg_attr(
    not(feature = "wasm"),
    allow(dead_code, reason = "some services for components have no user but the wasm host")
)]

mod component;
mod control;
mod file;
mod host;
mod hosting;
mod peers;
mod session;

pub use blockcast_blocks::abi::Level;
pub use blockcast_blocks::{ArenaMemory, MemoryError, OpenError, Trust};
pub use component::cancellation::ComponentControl;
pub use component::exit::{ComponentReport, ExitReason};
pub use component::handle::{Component, ComponentOptions};
pub use component::isolation::Isolation;
pub use component::limit_policy::{Limit, OnExcess, UnknownLimit};
pub use component::limits::{ComponentLimits, Rate};
pub use component::restart::{Restart, RestartPolicy};
pub use component::stats::ComponentStats;
pub use component::supervision::{ComponentState, Exit};
pub use control::broker::Broker;
pub use control::grants::Grants;
pub use control::start_error::StartError;
pub use control::stats::{Departed, TopicStats};
pub use control::untyped::{PublishBatchError, PublishBytesError, UntypedPublisher};
pub use control::wasi_part::{UnknownWasiPart, WasiPart};
pub use host::library::{self, LibraryError, LibraryFile, LibraryProgram};
pub use host::linked::{AppOutcome, Async, Blocking};
pub use host::process::child::{library_child_main, process_main};
pub use host::process::error::ProcessError;
pub use host::process::sandbox::Sandbox;
pub use host::process::source::ProcessSource;
pub use host::process::{self};
#[cfg(feature = "wasm")]
pub use host::wasm::{
    self, CacheError, CacheStats, CompilerError, CompilerProcess, EngineError, GuestCache, GuestEngine,
    GuestProgram, GuestSetup, GuestSource, LoadError, LoadLimit, LoadLimits, LoadOptions, PrecompiledError,
    UnknownLoadLimit, compile_child_main,
};
pub use hosting::log::LogSink;
pub use hosting::topic_access::{Checks, PublisherPort, Refusal, SubscriptionSource, TopicAccess, Validator};
pub use peers::connection::{Connection, Serving};
pub use peers::error::{ConnectError, InspectError, NoRuntimeDir, ServeError};
pub use peers::options::{ConnectOptions, PeerLimits, ServeOptions, Stall};
pub use peers::place::default_socket;
pub use peers::protocol::Versions;
#[doc(hidden)]
pub use peers::protocol::fuzz_decode as fuzz_peer_message;
pub use peers::socket::Broken;
pub use peers::topics::{HostPublisher, HostTopic, PublisherCounters, SubscriberCounters};
pub use session::{LinkedHost, Session, Sleep};
