//! The control plane: quality of service, supervision, and memory that the user provides.

#[path = "../guest_support/mod.rs"]
mod guest_support;

mod brought_memory;
mod callbacks;
mod departure;
mod fork;
mod lifetime;
mod linked_panics;
mod quality_of_service;
mod restarts;
mod supervision;
mod topics;
