//! Other processes of this machine take part in topics.
//!
//! Each process has a broker of its own. A *host* [serves](Broker::serve) its topics at a Unix socket, and
//! *clients* [connect](connection::Connection) to it. The topics of all their brokers are linked: a
//! subscription joins the publishers of every process. The host brings the processes together; messages go
//! from the publisher's memory directly to the subscribers of every process.
//!
//! - [`connection`] is the public handle; [`options`] and [`error`] belong to it;
//! - [`link`] connects a process's own threads, [`node`] is the part of a process in the channels that it
//!   shares, and [`registry`] is the host's view of all processes;
//! - [`wall`] copies the messages of untrusted publishers;
//! - [`topics`] describes the topics of a host to those who inspect it;
//! - [`host`] and [`client`] are the threads that connect these;
//! - [`children`] connects the processes that run components of the host, and [`job`] describes what they
//!   run;
//! - [`protocol`] defines the messages between processes, and [`socket`] sends them;
//! - [`place`] finds the host, [`identity`] identifies who connects, and [`poller`] waits for all of them.
//!
//! ```text
//!   client                     host                        client
//!   Connection                 Broker::serve               Connection
//!     │ Link                     │ Link                      │ Link
//!     ▼                          ▼                           ▼
//!   Node ◀───── socket ─────▶ Registry ◀──── socket ─────▶ Node
//!                                ▲
//!                                ▼
//!                              Node
//! ```
//!
//! # Deaths
//! Every process watches the pidfd of each process with which it shares a channel. So it notices deaths even
//! without the host: the publisher's process drops the annex of a dead subscriber, and a subscriber's process
//! ends the channel of a dead publisher. A closed socket only means that a process cannot join others.
//!
//! # Trust
//! The host checks everything that it receives: lengths, counts, names, files. A client that violates the
//! protocol is disconnected. Clients check data that comes from other processes through the host, but trust
//! the host itself. Only the host's [`wall`] joins an untrusted publisher, such as one of another user, and
//! copies its messages. All other publishers must be trusted not to change a message after publishing it.
//!
//! [`Broker::serve`]: crate::Broker::serve

pub(crate) mod children;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod expected;
mod host;
pub(crate) mod identity;
pub(crate) mod job;
pub(crate) mod link;
mod node;
mod numbers;
pub(crate) mod options;
pub(crate) mod place;
mod poller;
pub(crate) mod protocol;
pub(crate) mod registry;
pub(crate) mod socket;
pub(crate) mod topics;
mod wall;
