//! The protocols, explored by loom under every interleaving and every stale read that its bounds allow.
//!
//! `.ci/models` runs them. Each is known to find what it looks for: `.ci/mutations` weakens one ordering or
//! one check of the engine at a time (`--cfg blockcast_mutation="name"`) and expects the models named there
//! to fail.

mod claim;
mod gate;
mod ring;
