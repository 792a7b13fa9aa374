//! The control plane: quality of service, supervision, and memory that the user provides.

#[path = "../guest_support/mod.rs"]
mod guest_support;

mod brought_memory;
mod departure;
mod fork;
mod quality_of_service;
mod supervision;
