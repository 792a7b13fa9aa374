//! The publishing side of Blockcast: loan a block, build a value in it, publish it.
//!
//! ```
//! use blockcast_blocks::{ChannelConfig, Payload, Pod, PublisherId, ReaderOptions, Signal, channel};
//! use blockcast_publisher::Publisher;
//!
//! let schema = Pod::<u32>::schema();
//! let writer = channel(ChannelConfig::new(PublisherId::new(1), schema.clone()))?;
//! let mut reader = writer.channel().join(&schema, ReaderOptions::default(), Signal::new())?;
//! let mut publisher = Publisher::<Pod<u32>>::new(writer)?;
//!
//! publisher.try_loan()?.send(&[1, 2, 3][..])?; // written in place
//! publisher.try_loan()?.send_with(|block| {
//!     let mut numbers = block.builder();
//!     numbers.elements()[0] = 4;
//!     numbers.finish(1)
//! })?;
//!
//! assert_eq!(reader.receive()?.descriptor().len, 12);
//! assert_eq!(reader.receive()?.descriptor().len, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cost
//! Loaning and publishing neither allocate nor copy. They call the system only to wake a sleeping subscriber.
//! Their cost does not depend on the number of subscribers.
//!
//! # Waiting
//! `try_loan` never waits, `blocking_loan` blocks the thread, and `loan` is `async`. They wait only while all
//! blocks are in use: published, and still needed by a subscriber that must not lose messages or keeps
//! samples.

mod loan;
mod options;
mod publisher;

pub use blockcast_blocks::{LoanError, Sequence};
pub use loan::{BatchError, BuildFailed, BuiltLoan, EmptyBlock, Loan, SendError};
pub use options::PublisherOptions;
pub use publisher::{Publisher, SchemaMismatch};
