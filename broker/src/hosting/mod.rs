//! Services that every host provides to its components. Nothing here knows wasmtime.
//!
//! - [`topic_access`] joins topics on a component's behalf;
//! - [`deliveries`] hands out the messages of a topic's publishers to one subscription, and [`held_blocks`]
//!   counts the blocks that the component holds;
//! - [`address_space`] abstracts how a component reaches those blocks: by windows or by plain pointers;
//! - [`publishing`] publishes a component's messages, and [`account`] charges the memory of its channels;
//! - [`storage`] holds the rules of memory blocks: who may attach which part of one;
//! - [`handles`] names a component's open objects;
//! - [`meter`] counts calls and enforces rates, [`log`] bounds the lines that a component writes, and
//!   [`lines`] cuts its output into them.

pub(crate) mod account;
pub(crate) mod address_space;
pub(crate) mod deliveries;
pub(crate) mod handles;
pub(crate) mod held_blocks;
pub(crate) mod lines;
pub(crate) mod log;
pub(crate) mod meter;
pub(crate) mod publishing;
pub(crate) mod storage;
pub(crate) mod topic_access;
