//! Zero-copy publish-subscribe on memory blocks, for threads, processes and sandboxed wasm guests.
//!
//! A publisher fills a block in place, a [`Broker`] gives every subscriber a read-only attachment to it, and
//! the block is reclaimed once every subscriber has detached. A subscriber is a thread, a task, a native
//! library, a wasm guest or another process. Nothing is copied.
//!
//! ```
//! use blockcast::{Broker, Flat};
//!
//! let broker = Broker::new();
//! let mut subscriber = broker.subscriber::<Flat<Vec<String>>>("lines", Default::default())?;
//! let mut publisher = broker.publisher::<Flat<Vec<String>>>("lines", Default::default())?;
//!
//! publisher.try_loan()?.send(&vec!["hello".to_owned(), "one".to_owned()])?;
//!
//! let message = subscriber.try_recv_ref()?;
//! assert_eq!(message.view().get(1).unwrap(), "one"); // read in place
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Apps
//! An app is an `async fn` that takes a [`Session`], or a plain `fn` that takes one and uses the blocking
//! calls. The same source runs in four deployments:
//! - linked into a program, [`Broker::run`] runs it;
//! - exported with [`export!`] and built for wasm32, it is a guest, which [`Broker::spawn_guest`] runs in a
//!   sandbox;
//! - exported and built with `RUSTFLAGS="--cfg blockcast_library"`, it is a shared library, which
//!   [`Broker::spawn_library`] runs at the speed of linked code;
//! - such a library, or a program made with [`main!`], runs in a process of its own:
//!   [`Broker::spawn_process`].
//!
//! # Processes
//! A broker [serves](Broker::serve) its topics at a Unix socket. Other processes of the machine
//! [connect](Connection::connect) to it, and publish and subscribe as if they were part of the program. The
//! messages of processes of the same user are not copied either.
//!
//! # Crates
//! | crate | contents |
//! | --- | --- |
//! | `blockcast-blocks` | arenas, blocks, the ring, cursors, reclamation |
//! | `blockcast-flat-types` | the flat layout |
//! | `blockcast-publisher`, `blockcast-subscriber` | typed publishers and subscribers; native and wasm32 |
//! | `blockcast-session` | an app's topics, parameters, log and clock, in every deployment |
//! | `blockcast-broker` | topics, grants, components and their hosts; native only |
//!
//! This crate re-exports everything that an app needs.
//!
//! # Features
//! | feature | adds |
//! | --- | --- |
//! | `rkyv` (default) | `Rkyv`: archives of rkyv as messages |
//! | `wasm` (default) | wasm guests. Without it, programs do not compile wasmtime |
//! | `wasi` | guests that are ordinary programs for `wasm32-wasip2` |

#[cfg(feature = "rkyv")]
#[doc(hidden)]
pub use blockcast_blocks::__archive;
#[cfg(feature = "rkyv")]
pub use blockcast_blocks::{ArchiveType, Rkyv, archive};
pub use blockcast_blocks::{
    BuildError, Bytes, InvalidPayload, LoanError, OpenError, Overflow, Payload, Pod, PodType, PublisherId,
    Reuse, RoomError, Schema, Sequence, SizeClass, Timestamp, Timestamps, WriteFrom,
};
pub use blockcast_flat_types as flat;
pub use blockcast_flat_types::Flat;
pub use blockcast_publisher::{
    BatchError, BuiltLoan, EmptyBlock, Loan, Publisher, PublisherOptions, SendError,
};
pub use blockcast_subscriber::{
    Batch, Latest, Message, RecvError, Sample, Subscriber, SubscriberOptions, Waitable, wait_any,
};

#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub use blockcast_blocks::{
    ArenaMemory, ChannelError, ChannelStats, MemoryError, NoMappings, PoolStats, ReaderStats, page_size,
    park, reserve_mappings, text,
};
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub use blockcast_broker::{
    AppOutcome, Broken, Broker, Component, ComponentLimits, ComponentOptions, ComponentReport,
    ComponentState, ComponentStats, ConnectError, ConnectOptions, Connection, Departed, Exit, ExitReason,
    Grants, HostPublisher, HostTopic, InspectError, Isolation, Level, LibraryError, LibraryFile,
    LibraryProgram, Limit, LogSink, NoRuntimeDir, OnExcess, PeerLimits, ProcessError, ProcessSource,
    PublisherCounters, Rate, Restart, RestartPolicy, Sandbox, ServeError, ServeOptions, Serving, Session,
    Sleep, Stall, StartError, SubscriberCounters, TopicStats, Trust, UnknownWasiPart, Validator, Versions,
    WasiPart, default_socket, library_child_main, process_main,
};
#[cfg(all(feature = "wasm", not(any(target_family = "wasm", blockcast_library))))]
pub use blockcast_broker::{
    CacheError, CacheStats, CompilerError, CompilerProcess, GuestCache, GuestEngine, GuestProgram,
    GuestSource, LoadError, LoadLimit, LoadLimits, LoadOptions, PrecompiledError, UnknownLoadLimit,
    compile_child_main,
};

mod app;
mod export;
pub use app::{App, Async, Blocking};
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
#[doc(hidden)]
pub use export::check_app;

#[cfg(any(target_family = "wasm", blockcast_library))]
pub mod client;
#[cfg(any(target_family = "wasm", blockcast_library))]
pub use client::{Level, Session, Sleep};

/// Why an app failed: any error. It becomes part of the component's exit reason.
pub type AppError = Box<dyn std::error::Error + Send + Sync>;

/// Compiles and runs the README's snippets as documentation tests.
#[cfg(all(doctest, feature = "wasm"))]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// Compiles the snippets of the guide to processes.
#[cfg(all(doctest, not(any(target_family = "wasm", blockcast_library))))]
#[doc = include_str!("../examples/guide/processes.md")]
pub struct SeveralPrograms;
