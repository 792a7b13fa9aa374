//! The control plane: quality of service, supervision, and memory that the program provides.

#[path = "../guest_support/mod.rs"]
mod guest_support;

mod callbacks;
mod departure;
mod external_memory;
mod fork;
mod lifetime;
mod linked_panics;
mod quality_of_service;
mod restarts;
mod supervision;
mod topics;
