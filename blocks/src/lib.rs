//! Memory blocks, and how they travel from one publisher to many subscribers without a copy.
//!
//! A *channel* is shared memory: an *arena* of blocks, a ring of *descriptors*, and one *cursor* line per
//! subscriber. A publisher loans a block, fills it in place and publishes it with one descriptor and one
//! head word, whatever the number of subscribers. A subscriber advertises in its cursor the interval of
//! sequence numbers that it may be attached to (its *epoch* is the interval's lower end), so that the
//! publisher knows, when it needs blocks back, which ones nobody looks at any more.
//!
//! ```
//! use blockcast_blocks::{ChannelConfig, PublisherId, ReaderOptions, Schema, Signal, channel};
//!
//! let schema = Schema::named("greeting");
//! let mut writer = channel(ChannelConfig::new(PublisherId::new(1), schema.clone()))?;
//! let mut reader = writer.channel().join(&schema, ReaderOptions::default(), Signal::new())?;
//!
//! let mut loan = writer.try_loan(5)?;
//! loan[..5].copy_from_slice(b"hello");
//! loan.publish(5)?;
//!
//! assert_eq!(reader.receive()?.bytes(), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it costs
//! | step | reads and writes that others see | calls the system | allocates |
//! | --- | --- | --- | --- |
//! | loan | none; now and then a look at every cursor, which gets many blocks back at a time | no | no |
//! | publish | a descriptor (none if its slot holds it already), two words | only if a subscriber sleeps | no |
//! | receive by reference | a load of the head, the descriptor; one store lets go, of a batch too | only if the publisher sleeps | no |
//! | receive a sample | the same; one compare-exchange where it is dropped | as above | if more are kept than ever before |
//! | keep a sample long | four atomic operations more in all, on its block's count and the total | as above | no |
//! | join, leave | under a lock; joining makes every thread of the process pass a barrier, about 10 µs | yes | yes |
//! | statistics | a load per counter, under a lock of those who join | no | yes |
//!
//! A subscriber that may lose messages also claims them: one fence per window of up to 32.
//! Lengths are in bytes and at most 2 GiB less one, an arena has at most 128 GiB, times are nanoseconds of the monotonic
//! clock. Whatever is refused is an error that names the number or what to do: [`ChannelError`], [`JoinError`],
//! [`LoanError`], [`ReceiveError`].
//!
//! # After a fork
//! A process that is forked keeps its channels for itself. In the child every end that was made before is *inherited*: whatever
//! it is asked to do is refused ([`LoanError::Forked`], [`ReceiveError::Forked`], [`JoinError::Forked`]), its futures are ready
//! with that error, and dropping it changes nothing that the parent sees. Channels that the child makes are its own, and work.
//!
//! The messages' memory is not there in the child. [`RawSample::bytes`] panics, and bytes that are borrowed while the process
//! forks (a message by reference, a loan) cannot be accessed: the system ends a child that does (`SIGSEGV`). Copy what a child is to
//! have. This holds for `fork(2)`; after `vfork`, `_Fork` or `clone` a child may only call `exec` or `_exit`.
//! [`std::process::Command`] is not concerned.
//!
//! This crate is the engine: bytes, sequences, blocks. Topics, types and tasks come with
//! `blockcast-publisher`, `blockcast-subscriber` and `blockcast-broker`.
//!
//! Built for wasm, or with `--cfg blockcast_library`, it holds no engine: the same verbs (`guest`) over the functions of a host,
//! which for a library are those of a table of C functions ([`abi`]).
//!
//! The way of a message, file by file: `channel` (makes the shared memory: `arena`, `control`), `writer`
//! (loans), `producer` (publish, reclaim), `descriptor`, `consumer` (claim, take, let go), `reader` (by
//! reference), `attachment` and `sample` (owned samples); `gate`, `signal`, `roster` and `park` wake whoever sleeps.

pub mod payload;
pub mod pod;
#[cfg(feature = "rkyv")]
pub mod rkyv;
pub mod schema;
pub mod units;

#[cfg(feature = "rkyv")]
pub use self::rkyv::{ArchiveType, Rkyv, archive};
pub use payload::{BLOCK_ALIGNMENT, BuildError, Bytes, InvalidPayload, Payload, RoomError, WriteFrom};
pub use pod::{Pod, PodType};
pub use schema::{Schema, fingerprint_of};
pub use units::{PublisherId, Sequence, Timestamp};

pub mod descriptor;
pub mod error;
pub mod options;
pub mod stats;
pub mod text;
mod when_ready;

pub use descriptor::{Descriptor, Validity};
pub use error::{ChannelError, JoinError, LoanError, MemoryError, OpenError, ReceiveError};
pub use options::{Overflow, ReaderOptions, Reuse, SizeClass, Timestamps};
pub use stats::{ChannelStats, HolderStats, PoolStats, ReaderStats};
pub use when_ready::WhenReady;

#[cfg(not(target_family = "wasm"))]
pub mod abi;

#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod native {
    pub use crate::arena::Arena;
    pub use crate::brought::ArenaMemory;
    pub use crate::channel::{ArenaPin, Channel, ChannelConfig};
    pub use crate::reader::{RawBatch, RawMessage, Reader};
    pub use crate::sample::RawSample;
    pub use crate::signal::Signal;
    pub use crate::sys::file_size::file_size_limit;
    pub use crate::sys::fork::{ForkFlag, Process};
    pub use crate::sys::mappings::{NoMappings, charge_mappings, reserve_mappings};
    pub use crate::sys::{large_page_size, page_size};
    pub use crate::writer::{RawLoan, SuspendedLoan, Writer, channel, channel_over, channel_with};
}
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub use native::*;

#[cfg(any(target_family = "wasm", blockcast_library))]
pub mod guest;
#[cfg(any(target_family = "wasm", blockcast_library))]
pub use guest::{RawBatch, RawLoan, RawMessage, RawSample, Writer, park};

#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub mod arena;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod attachment;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub mod biased;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod brought;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub mod channel;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod consumer;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod control;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod gate;
#[cfg(not(target_family = "wasm"))]
mod line;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub mod park;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod pool;
#[cfg(not(target_family = "wasm"))]
mod primitive;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod producer;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub mod reader;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod roster;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod sample;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub mod shield;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub mod signal;
#[cfg(not(target_family = "wasm"))]
mod spin;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod sys;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub mod writer;
