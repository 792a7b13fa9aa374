//! Who may take part: topics, grants, and the [`Broker`](broker::Broker) that owns them.
//!
//! - [`broker`] is the public handle; [`shared`] is the state behind it;
//! - [`components`], [`processes`] and [`guests`] load code and start it on the runtime that [`tasks`] holds,
//!   or fail with a [`start_error`];
//! - [`topic_table`] finds a topic by its name;
//! - [`topic`] joins the publishers and subscriptions of one name and schema, and [`stats`] counts what they
//!   do;
//! - [`untyped`] publishes bytes of layouts that the program does not know;
//! - [`grants`] lists what a component may do, among it the parts of WASI in [`wasi_part`], and [`granted`]
//!   holds a component to its grants;
//! - [`expectation`] tracks publishers that may come back after a restart.

pub(crate) mod broker;
mod components;
pub(crate) mod expectation;
pub(crate) mod granted;
pub(crate) mod grants;
#[cfg(feature = "wasm")]
mod guests;
mod processes;
pub(crate) mod shared;
pub(crate) mod start_error;
pub(crate) mod stats;
pub(crate) mod tasks;
pub(crate) mod topic;
mod topic_table;
pub(crate) mod untyped;
pub(crate) mod wasi_part;
