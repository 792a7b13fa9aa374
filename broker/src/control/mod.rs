//! Who may take part: topics, grants, and the [`Broker`] that owns them.
//!
//! - [`broker`] creates topics, starts components and ends them;
//! - [`topic`] joins publishers and subscriptions of one name and schema, and [`stats`] counts what they do;
//! - [`grants`] lists the topics that a component may use, and [`granted`] holds a component to its grants;
//! - [`expectation`] tracks publishers that may come back after a restart.

pub(crate) mod broker;
pub(crate) mod expectation;
pub(crate) mod granted;
pub(crate) mod grants;
pub(crate) mod stats;
pub(crate) mod topic;
