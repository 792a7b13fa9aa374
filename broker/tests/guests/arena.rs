//! Components that see whole arenas, as guests do by default.

#[path = "every.rs"]
mod every;

use blockcast_broker::Isolation;

use crate::guest_support::{Form, Kind};

const KIND: Kind = Kind { form: Form::Component, isolation: Isolation::Arena };
