//! The functions of the WIT package as a table of C functions, for components that are shared libraries.
//!
//! A host and a library that it loads exchange two tables of `#[repr(C)]`: [`Host`], the functions that the
//! host offers, and [`App`], how to run the app. `wit/` documents the functions. The documentation here only
//! adds what concerns pointers, ownership and threads. `include/blockcast.h` is the same for C; cbindgen
//! generates it from these files.
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
//! Both tables begin with [`VERSION`] and their own size in bytes. Both sides refuse another version. Within
//! one version, tables only grow, at their ends, and nobody reads more of a table than it has
//! ([`Host::read`], [`App::read`]). So an app runs in a host with more functions than it knows. If an app
//! needs more than a host has, it is refused with both sizes.
//!
//! A library keeps its table in a section `.blockcast` of its file, if it can. Then its version can be read,
//! and another one refused, before any of its code runs.
//!
//! # Values
//! * Every function takes the host's `context` first. It and the table stay valid until the library is
//!   closed.
//! * A [`Status`] of 0 is success. Functions write out-pointers on success only. These pointers must be
//!   valid, and must not be null unless the function says so. Whatever an in-pointer or a [`Text`] refers to
//!   must stay valid and unchanged during the call. No function keeps it.
//! * Handles are opaque numbers, never 0. The host checks every handle, even in release builds: one that was
//!   closed, was never given out, or is of another kind is `invalid-handle`. The host closes whatever a
//!   component leaves open.
//! * Addresses are those of the process. Attaching maps nothing, so no address space is donated: size queries
//!   return 0. The bytes of a message are those of its block. They are valid until the delivery is released
//!   and no longer held, and must never be written.
//! * No function unwinds into the other side, and neither side jumps (`longjmp`) across it.
//!
//! # Threads
//! The host calls `run` on a thread of its own. While `run` is running, any thread of the component may call
//! any function. The host admits one call at a time. The thread of `run` enters at no cost; others pay some
//! microseconds while it is busy. Only one thread at a time may be in `wait`, which admits the others. A
//! second one returns at once, without a reason. A call made from within another call, by code of the host's
//! program that the host calls, is `busy`.
//!
//! # After `run` has returned
//! Calls are refused, and `wait` returns. Delivered messages that were not released, loans and memory blocks
//! stay in place, for thread-local destructors and for threads that the component left behind. The host
//! closes the library once the threads that its code created with `pthread_create` are gone. If they take
//! longer than the shutdown grace, the component is abandoned. The host cannot see threads that other code
//! creates for the component, as a shared C++ runtime does. They must be gone before `run` returns.
//!
//! # Direct publishing
//! A host may let a component publish directly (`publisher_direct`), by the words that announce a publisher's
//! messages. Then a message takes no call: the component takes many blocks at a time, and calls the host when
//! somebody waits for a message. Handles and pointers are checked at every call, but nothing of this is: it
//! is a contract, as is everything that native code does with memory. A component that breaks it publishes
//! nonsense, and whatever others read of that is undefined. No component needs it. The calls do the same, and
//! both can be mixed.
//!
//! # Cancelling
//! Once a component is cancelled, functions that return a status return [`Status::CANCELLED`], and `wait`
//! reports [`WAKE_CANCELLED`] at once, even if it is already waiting. The word `over` of a
//! [`DirectPublisher`] is not 0. The component then returns from `run`, with any value. Native code that does
//! none of this cannot be stopped.

mod app;
mod codes;
mod direct;
mod error;
mod host;
mod level;
mod negotiation;
mod status;
mod values;

pub use app::{App, RUN_CANCELLED, RUN_FAILED, RUN_FINISHED, RUN_PANICKED, RUN_REFUSED};
pub use direct::{DirectPublisher, RingSlot};
pub use error::Error;
pub use host::Host;
pub use level::Level;
pub use negotiation::Misfit;
pub use status::Status;
pub use values::{
    ACCESS_SHARED, ACCESS_WRITE, Area, FOREVER, LEVEL_DEBUG, LEVEL_ERROR, LEVEL_INFO, LEVEL_TRACE,
    LEVEL_WARN, Loan, OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST, PublisherOptions,
    PublisherStats, REUSE_BY_SIZE, REUSE_HOTTEST, REUSE_OLDEST, Record, SizeClass, SubscriptionOptions,
    SubscriptionStats, TIMESTAMPS_COARSE, TIMESTAMPS_OFF, TIMESTAMPS_PRECISE, Text, VALID, WAKE_CANCELLED,
    WAKE_PROGRESS, WAKE_SHUTDOWN, WAKE_TIMEOUT,
};

/// The version of both tables. Other versions are incompatible.
pub const VERSION: u32 = 1;

/// The one symbol that a library exports: a function of type [`Entry`].
pub const ENTRY: &str = "blockcast_app";

/// The function that [`ENTRY`] names. Returns the library's table, which stays valid and unchanged until the
/// library is closed.
///
/// `host` is the table with which `run` will be called, or null if the host only inspects the library. A
/// library that does not fit the host returns its table all the same, so that the host can describe it.
pub type Entry = unsafe extern "C" fn(host: *const Host) -> *const App;
