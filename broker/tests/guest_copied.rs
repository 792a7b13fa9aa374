//! What holds for guests to which blocks are mapped holds for those to which all is copied: the same tests once more.
//!
//! `guest_support::ISOLATION` tells them which they are about.

#![allow(clippy::duplicate_mod, reason = "each of the files brings its own support")]

#[path = "guest_delivery.rs"]
mod delivery;
#[path = "guest_lifecycle.rs"]
mod lifecycle;
#[path = "guest_publishing.rs"]
mod publishing;
