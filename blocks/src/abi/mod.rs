//! The functions of the WIT package as a table of C functions, for components that are shared libraries.
//!
//! A host that loads a library and the library that it loads exchange two tables of `#[repr(C)]`: [`Host`], what the host
//! offers, and [`App`], how the app is run. What a function does is described in `wit/` and is not repeated here: only what
//! pointers, ownership and threads add to it. `include/blockcast.h` is the same for C, made from these files by cbindgen.
//!
//! ```text
//!   host                                        library
//!    │  loads it, looks for one symbol: ─────▶  blockcast_app        (the only one that is exported)
//!    │  ◀──────────────────────────────── App { version, size, run, name }
//!    │  run(&Host { version, size, context, functions }) ──▶ on a thread of its own
//!    │      ◀── functions(context, …) ── from any thread of the app
//!    ▼  closes it once `run` has returned
//! ```
//!
//! # Versions
//! Both tables begin with [`VERSION`] and their own size in bytes. Another version is refused by both sides. Within one version
//! tables only grow, at their ends, and whoever reads a table reads no more of it than it has ([`Host::read`], [`App::read`]): a
//! host with more functions than an app knows runs it, an app that needs more than a host has is refused with both sizes.
//!
//! A library keeps its table in a section `.blockcast` of its file, if it can: then its version can be read, and another one refused,
//! before anything of it runs.
//!
//! # Values
//! * Every function takes the host's `context` first. It and the table stay valid until the library is closed.
//! * A [`Status`] of 0 is success. Out-pointers are written on success only, and must be valid for that; they may be
//!   null nowhere but where it is said. What an in-pointer or a [`Text`] shows must stay valid and unchanged for the call; no
//!   function keeps it.
//! * Handles are opaque numbers, never 0, of which the host checks each, also in release builds: one that was closed, was
//!   never given out or is of another kind is `invalid-handle`. Whatever a component did not close, the host closes at its end.
//! * Addresses are those of the process. Nothing is mapped to attach it, so no address space is donated: size queries return 0.
//!   The bytes of a message are the block's own: valid until the delivery is released and no longer held, and never to be
//!   written.
//! * No function unwinds into the other side, and neither side jumps (`longjmp`) across it.
//!
//! # Threads
//! `run` is called on a thread of its own. Any thread of the component may call any function from the time that `run` is called
//! until it returns: the host lets one call at a time in. The thread of `run` is let in without cost, others pay
//! some microseconds while it is busy. Only one thread at a time may be in `wait`, which lets the others in; a second one is sent
//! back without a reason. A call made from within another one, by code of the host's program that the host calls, is `busy`.
//!
//! # After `run` has returned
//! Calls are refused, and `wait` returns. Messages that were delivered and not released, loans and memory blocks stay where they
//! are, for thread-local destructors and for threads that the component has left behind. The host closes the library when the
//! threads are gone that its code has created with `pthread_create`. If they take longer than the shutdown grace, the component
//! is abandoned. Threads that other code creates for the component (a shared C++ runtime does) the host does not see: they must
//! be gone before `run` returns.
//!
//! # A publisher's line
//! A host may give a component the line of a publisher (`publisher_line`): the words by which its messages are announced. Then a message
//! takes no call: blocks are taken many at a time, and the host is called when somebody waits for a message. Where handles and pointers are
//! checked at every call, of this nothing is: it is a contract, as all is that native code does with memory. A component that
//! breaks it publishes nonsense, and what others read of it is undefined. Nothing needs it: the calls do the same, and both may be mixed.
//!
//! # Cancelling
//! Once a component is cancelled, functions that return a status return [`Status::CANCELLED`] and `wait` reports
//! [`WAKE_CANCELLED`] at once, also to one that waits already; a line's word `over` is not 0. The component returns from `run` then, with any value.
//! Native code that does neither cannot be stopped.

mod app;
mod error;
mod host;
mod level;
mod line;
mod negotiation;
mod status;
mod values;

pub use app::{App, RUN_CANCELLED, RUN_FAILED, RUN_FINISHED, RUN_PANICKED, RUN_REFUSED};
pub use error::Error;
pub use host::Host;
pub use level::Level;
pub use line::{LineSlot, PublishingLine};
pub use negotiation::Misfit;
pub use status::Status;
pub use values::{
    ACCESS_SHARED, ACCESS_WRITE, Area, FOREVER, LEVEL_DEBUG, LEVEL_ERROR, LEVEL_INFO, LEVEL_TRACE,
    LEVEL_WARN, Loan, OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST, PublisherOptions,
    PublisherStats, REUSE_BY_SIZE, REUSE_HOTTEST, REUSE_OLDEST, Record, SizeClass, SubscriptionOptions,
    SubscriptionStats, TIMESTAMPS_COARSE, TIMESTAMPS_OFF, TIMESTAMPS_PRECISE, Text, VALID, WAKE_CANCELLED,
    WAKE_PROGRESS, WAKE_SHUTDOWN, WAKE_TIMEOUT,
};

/// Version of both tables. Another one is not compatible.
pub const VERSION: u32 = 1;

/// The one symbol that a library exports: a function of type [`Entry`].
pub const ENTRY: &str = "blockcast_app";

/// What [`ENTRY`] names: returns the library's table, which stays valid and unchanged until the library is closed.
///
/// `host` is the table with which `run` will be called, or null if the host only looks what the library is. A library that
/// does not fit the host returns its table all the same, so that the host can say what it is.
pub type Entry = unsafe extern "C" fn(host: *const Host) -> *const App;
