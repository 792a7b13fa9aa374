//! Guests in strict isolation keep the same promises as guests that see whole arenas.

#[path = "delivery.rs"]
mod delivery;
#[path = "donations.rs"]
mod donations;
#[path = "in_place/mod.rs"]
mod in_place;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "publishing.rs"]
mod publishing;
#[path = "straight_line.rs"]
mod straight_line;
#[path = "violations.rs"]
mod violations;

use blockcast_broker::Isolation;

use crate::guest_support::{Form, Kind};

const KIND: Kind = Kind { form: Form::Component, isolation: Isolation::Strict };
