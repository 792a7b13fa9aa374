//! A guest's linear memory, and the host's mappings in it.
//!
//! [`area`] names ranges of it. [`linear`] allocates it, so that the host knows its address. [`window`] maps
//! arenas into address space that the guest donated. [`view`] shows a strictly isolated guest its own
//! messages only. [`fault`] survives stores into read-only windows and records who made them.

pub(crate) mod area;
pub(crate) mod fault;
pub(crate) mod growth;
pub(crate) mod linear;
pub(crate) mod view;
pub(crate) mod window;
