//! The shared memory of one channel.
//!
//! [`arena`] maps the blocks, [`external_memory`] is memory that the user provides for them, and [`control`] lays out the
//! words of the protocol.

pub mod arena;
pub(crate) mod control;
pub(crate) mod external_memory;
