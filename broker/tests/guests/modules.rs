//! Core modules keep the same promises as components.

#[path = "every.rs"]
mod every;

use blockcast_broker::Isolation;

use crate::guest_support::{Form, Kind};

const KIND: Kind = Kind { form: Form::Module, isolation: Isolation::Arena };
