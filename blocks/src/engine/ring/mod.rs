//! The ring's protocol. The [`producer`] publishes and reclaims blocks; a [`consumer`] claims messages, takes
//! them and releases them.

pub(crate) mod consumer;
pub(crate) mod producer;
