//! The app's side against a host that the tests control.

mod host;
mod messages;
mod running;
