//! Zero-copy publish-subscribe on memory blocks, for threads and for sandboxed wasm guests.
//!
//! A publisher fills a block in place, a [`Broker`] hands read-only attachments of it to every subscriber,
//! and the block is reclaimed once every subscriber has let go of it. A subscriber is a thread, a task or a
//! wasm guest; nobody gets a copy.
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
//! assert_eq!(message.view().get(1).unwrap(), "one"); // read where it was written
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Apps
//! An app is an `async fn` that gets a [`Session`], or a plain `fn` that gets one and uses the blocking calls. Linked into a program it is
//! run by [`Broker::run`]. With [`export!`] the same source makes a component: built for wasm32 a guest, which
//! [`Broker::spawn_guest`] runs in a sandbox; built with `RUSTFLAGS="--cfg blockcast_library"` a shared library, which
//! [`Broker::spawn_library`] runs at the speed of linked code.
//!
//! # Crates
//! | crate | contents |
//! | --- | --- |
//! | `blockcast-blocks` | arenas, blocks, the ring, cursors, reclamation |
//! | `blockcast-flat-types` | the flat layout |
//! | `blockcast-publisher`, `blockcast-subscriber` | the typed ends; native and wasm32 |
//! | `blockcast-broker` | topics, grants, components, the wasm host; native only |
//!
//! Everything that an app needs is re-exported here.

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
pub use blockcast_publisher::{BuiltLoan, EmptyBlock, Loan, Publisher, PublisherOptions, SendError};
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
    AppOutcome, Broker, Component, ComponentLimits, ComponentOptions, ComponentReport, ComponentState,
    ComponentStats, Departed, Exit, ExitReason, Grants, GuestProgram, GuestSource, Isolation, Level,
    LibraryError, LibraryFile, LibraryProgram, Limit, LoadError, LogSink, OnExcess, Rate, Restart,
    RestartPolicy, Session, Sleep, StartError, TopicStats, Validator,
};
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub use blockcast_broker::{
    CacheError, CacheStats, CompilerError, CompilerProcess, GuestCache, GuestEngine, LoadLimit, LoadLimits,
    LoadOptions, PrecompiledError, UnknownLoadLimit, UnknownWasiPart, WasiPart, compile_child_main,
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

/// Why an app ended: any error, told to whoever runs it.
pub type AppError = Box<dyn std::error::Error + Send + Sync>;

/// The README's snippets are compiled and run as tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
