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
//! # A message's path
//! `engine` holds the side that owns shared memory: `segment` creates it, `writer` lends blocks, `ring` publishes,
//! claims and reclaims, `reader` hands out messages by reference and `sample` owned ones, `wake` wakes sleepers. `client`
//! holds the side that has a host instead of an engine. `abi` defines what crosses between the two.

pub mod payload;
pub mod units;

pub use payload::pod::{self, Pod, PodType};
#[cfg(feature = "rkyv")]
pub use payload::rkyv::{self, ArchiveType, Rkyv, archive};
pub use payload::schema::{self, Schema, fingerprint_of};
pub use payload::{BLOCK_ALIGNMENT, BuildError, Bytes, InvalidPayload, Payload, RoomError, WriteFrom};
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
#[cfg(not(target_family = "wasm"))]
mod direct;
#[cfg(not(target_family = "wasm"))]
mod primitive;
#[cfg(not(target_family = "wasm"))]
mod spin;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod sys;

#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod engine;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub use engine::exports::*;

#[cfg(any(target_family = "wasm", blockcast_library))]
pub mod client;
#[cfg(any(target_family = "wasm", blockcast_library))]
pub use client::{RawBatch, RawLoan, RawMessage, RawSample, Writer, park};
