//! The subscribing side of Blockcast: receive messages in place and keep them as long as needed.
//!
//! # By reference or owned
//! `recv_ref`, `recv_batch` and `for_each_ref` lend messages that are released when they are dropped, without
//! a copy and without an atomic read-modify-write. `for_each_ref` receives all messages until the end, in
//! batches that cost one claim and one release.
//!
//! `recv` returns a [`Sample`], which is `Send`, can be kept as long as needed and can be dropped in any
//! order. It costs one atomic exchange. A kept sample pins its own block. Messages received after it can stay
//! pinned too, until the next receive that finds no message, but never more than a quarter of the blocks of a
//! size.
//!
//! # Waiting
//! Methods that start with `try_` never wait. Those that start with `blocking_` block the thread; they spin
//! for about 10 µs before they park it, or for less if that was in vain on this thread lately. All others are
//! `async`. [`Subscriber`] is also a `futures::Stream` of samples.
//!
//! # Overflow
//! A subscriber with [`Overflow::Block`] loses no messages: its publishers wait.
//!
//! A subscriber with [`Overflow::DropOldest`] that falls behind loses its oldest messages. Before the next
//! message, it receives [`RecvError::Lost`] once, with the exact number. With [`Overflow::DropNewest`], it
//! keeps its oldest messages, and receives the loss after them. These subscribers never stop a publisher:
//! [`SubscriberOptions::samples`] limits the samples that they keep, and beyond the limit they receive
//! [`RecvError::TooManySamples`].
//!
//! [`Latest`] treats a topic as a single value. There, skipped messages are not a loss.
//!
//! # Order
//! Messages of one publisher stay in order. If a publisher ended before another one joined, as in a restart,
//! all its messages come before those of the other. Publishers that exist at the same time take turns in an
//! unspecified order, and a silent publisher does not delay the others. This applies to every receive method,
//! and in guests and libraries too.
//!
//! # Several topics
//! [`wait_any`] blocks until one of several subscribers has something to receive. In `async` code, use any
//! combinator.
//!
//! # Ending
//! A receive returns [`RecvError::Ended`] once every publisher of the topic is gone and all messages were
//! received. A topic that never had a publisher does not end.
//!
//! Unread messages of a publisher that is gone keep all its blocks and two memory mappings, but no file
//! descriptor, until they are received or the subscriber is dropped.
//!
//! A publisher that crashes is gone, even if its component is restarted immediately. By default, the
//! subscriber, its stream and `for_each_ref` end then. With [`SubscriberOptions::await_restarts`], the
//! subscriber waits for the restart.

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
