//! Guests that receive copies keep the same promises as guests with mapped blocks.

#[path = "delivery.rs"]
mod delivery;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "publishing.rs"]
mod publishing;
#[path = "straight_line.rs"]
mod straight_line;

use blockcast_broker::Isolation;

use crate::guest_support::{Form, Kind};

const KIND: Kind = Kind { form: Form::Component, isolation: Isolation::Copied };
