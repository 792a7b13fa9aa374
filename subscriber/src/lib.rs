//! The subscribing side of Blockcast: receive messages in place, keep them as long as needed.
//!
//! # By reference or owned
//! `recv_ref` and its kin lend a [`Message`] that is let go of when it is dropped: no copy, no atomic
//! read-modify-write. `recv` gives a [`Sample`] that is `Send`, is kept for as long as the user likes and
//! dropped in any order; it costs one atomic exchange. A kept sample pins its own block. What was
//! received after it can stay with it until the next receive that finds nothing: never more than a quarter of the blocks of a size.
//!
//! `for_each_ref` goes on to the end by reference, in batches that cost one claim and one release.
//!
//! # Waiting
//! `try_` never waits, `blocking_` blocks the thread (it spins for about 10 µs before it parks), plain names
//! are `async`. [`Subscriber`] is a `futures::Stream` of samples.
//!
//! # Losing
//! A subscriber with [`Overflow::Block`] loses nothing. One with [`Overflow::DropOldest`] that falls behind
//! gets [`RecvError::Lost`] with the exact number, once, before the next message.
//!
//! It never stops the publisher, whatever it keeps: [`SubscriberOptions::samples`] limits that, and whoever exceeds the limit
//! gets [`RecvError::TooManySamples`].
//!
//! One with [`Overflow::DropNewest`] keeps the oldest and is told after them. [`Latest`] is a topic as a value
//! cell, where skipping is no loss.
//!
//! # Order
//! Messages of one publisher keep their order. If a publisher ended before another one joined, as at a restart, all its
//! messages come before those of the other. Publishers that were there at the same time take turns, in no promised order, and
//! one that is silent keeps nobody waiting. The same holds for every way of receiving, in guests and libraries too.
//!
//! # Several topics
//! [`wait_any`] blocks until one of several subscribers has something; in `async` code any combinator does.
//!
//! # Ending
//! When every publisher of the topic is gone and everything was received: [`RecvError::Ended`]. A topic that
//! never had a publisher has not ended.
//!
//! Unread messages of a publisher that has gone keep all its blocks, in two memory mappings and without a file descriptor, until
//! they are received or the subscriber is dropped.
//!
//! A publisher that crashes is gone, even if its component is restarted a moment later. By default the subscriber ends
//! then, and so do its stream and `for_each_ref`. With [`SubscriberOptions::await_restarts`] it waits for the restart.

mod latest;
mod message;
mod options;
mod subscriber;
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
mod subscription;
mod wait;

pub use blockcast_blocks::Overflow;
#[cfg(any(target_family = "wasm", blockcast_library))]
pub use blockcast_blocks::client::Subscription;
pub use latest::Latest;
pub use message::{Batch, Message, Sample};
pub use options::SubscriberOptions;
pub use subscriber::{RecvError, Subscriber};
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
pub use subscription::{
    ExpectedPublishers, Subscription, SubscriptionFeed, subscription, subscription_awaiting,
    subscription_with,
};
pub use wait::{Waitable, wait_any};
