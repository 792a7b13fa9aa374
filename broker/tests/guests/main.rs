//! Guests in the sandbox. They share one test program, because each one links wasmtime.
//!
//! The tests in [`every`](arena::every) run for components in [`arena`] and for core modules in [`modules`].
//! Many of them run again in [`strict`] and [`copied`] isolation. Each of these modules includes the shared
//! files, and its `KIND` selects the guests. A test that inspects or changes the whole process (open files,
//! mappings) runs in a child process; see `guest_support::child`.

#![allow(clippy::duplicate_mod, reason = "guests of several kinds share the tests")]

#[path = "../guest_support/mod.rs"]
mod guest_support;

mod arena;
mod copied;
mod modules;
mod strict;

mod arbitrary_calls;
mod cache;
mod departed;
mod dropped;
mod exhaustion;
mod hostile_code;
mod hostile_components;
mod hostile_excess;
mod hostile_modules;
mod isolation;
mod limits;
mod load_limits;
mod loading;
mod process_limits;
mod signals;
#[cfg(feature = "wasi")]
mod wasi;
