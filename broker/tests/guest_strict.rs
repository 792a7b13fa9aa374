//! What holds for guests that see whole arenas holds for those of strict isolation: the same tests once more.
//!
//! `guest_support::ISOLATION` tells them which they are about.

#![allow(clippy::duplicate_mod, reason = "each of the files brings its own support")]

#[path = "guest_delivery.rs"]
mod delivery;
#[path = "guest_donations.rs"]
mod donations;
#[path = "guest_in_place.rs"]
mod in_place;
#[path = "guest_lifecycle.rs"]
mod lifecycle;
#[path = "guest_publishing.rs"]
mod publishing;
#[path = "guest_violations.rs"]
mod violations;
