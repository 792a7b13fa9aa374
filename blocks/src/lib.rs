//! Memory blocks, and how they travel from one publisher to many subscribers without a copy.
//!
//! A *channel* is shared memory: an *arena* of blocks, a ring of *descriptors*, and one *cursor* line per
//! subscriber. A publisher loans a block, fills it in place, and publishes it with one descriptor and one
//! head word, however many subscribers there are. A subscriber advertises in its cursor the interval of
//! sequence numbers that it may be attached to (its *epoch* is the interval's lower end). When the publisher
//! needs blocks back, the cursors show which ones nobody reads any more.
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
//! | loan | none; now and then a scan of all cursors, which reclaims many blocks at a time | no | no |
//! | publish | a descriptor (none if its slot holds it already), two words | only if a subscriber sleeps | no |
//! | receive by reference | a load of the head and of the descriptor; one store releases a message or a batch | only if the publisher sleeps | no |
//! | receive a sample | the same; one compare-exchange where it is dropped | as above | if more are kept than ever before |
//! | keep a sample long | four more atomic operations, on its block's count and the total | as above | no |
//! | join, leave | under a lock; joining makes every thread of the process pass a barrier, about 10 µs | yes | yes |
//! | statistics | a load per counter, under a lock that joining takes too | no | yes |
//!
//! A subscriber that may lose messages also claims them: one fence per window of up to 32. Lengths are in
//! bytes, and at most 2 GiB less one. An arena has at most 128 GiB. Times are nanoseconds of the monotonic
//! clock. Every refusal is an error that names the number or says what to do: [`ChannelError`],
//! [`JoinError`], [`LoanError`], [`ReceiveError`].
//!
//! # After a fork
//! A forked process keeps its channels to itself. In the child, every end that was created before is
//! *inherited*. All its operations fail ([`LoanError::Forked`], [`ReceiveError::Forked`],
//! [`JoinError::Forked`]), its futures are ready with that error, and dropping it changes nothing that the
//! parent sees. Channels that the child creates are its own, and work.
//!
//! The child does not inherit the messages' memory. [`RawSample::bytes`] panics, and bytes that are borrowed
//! while the process forks (a message by reference, a loan) cannot be accessed: the system ends a child that
//! does (`SIGSEGV`). Copy what the child needs. This holds for `fork(2)`; after `vfork`, `_Fork` or `clone`,
//! a child may only call `exec` or `_exit`. [`std::process::Command`] is not affected.
//!
//! # Other crates
//! This crate is the engine: bytes, sequences, blocks. `blockcast-publisher`, `blockcast-subscriber` and
//! `blockcast-broker` add types, tasks and topics.
//!
//! Built for wasm, or with `--cfg blockcast_library`, this crate contains no engine. It offers the same
//! operations (`client`) on top of the functions of a host. For a library, these are a table of C functions
//! ([`abi`]).
//!
//! # A message's path
//! `engine` is the side that owns shared memory: `segment` creates it, `writer` loans blocks, `ring`
//! publishes, claims and reclaims, `reader` returns messages by reference and `sample` owned ones, `wake`
//! wakes sleepers. `client` is the side that has a host instead of an engine. `abi` defines what crosses
//! between the two.

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
pub use error::{ChannelError, JoinError, LoanError, MemoryError, NoRelay, OpenError, ReceiveError};
pub use options::{Overflow, ReaderOptions, Reuse, SizeClass, Timestamps, WriterOptions};
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
