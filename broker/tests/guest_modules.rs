//! What holds for guests that are components holds for core modules: the same tests once more.
//!
//! `guest_support::FORM` tells them which they are about.

#![allow(clippy::duplicate_mod, reason = "each of the files brings its own support")]

#[path = "guest_broker.rs"]
mod broker;
#[path = "guest_delivery.rs"]
mod delivery;
#[path = "guest_donations.rs"]
mod donations;
#[path = "guest_in_place.rs"]
mod in_place;
#[path = "guest_lifecycle.rs"]
mod lifecycle;
#[path = "guest_memory_blocks.rs"]
mod memory_blocks;
#[path = "guest_publishing.rs"]
mod publishing;
#[path = "guest_violations.rs"]
mod violations;
#[path = "guest_zero_copy.rs"]
mod zero_copy;
