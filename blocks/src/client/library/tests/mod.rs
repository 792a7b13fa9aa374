//! The app's side against a host that does what the tests say.

mod host;
mod messages;
mod running;
