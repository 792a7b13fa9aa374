//! Guests in the sandbox: one program, since every test program links wasmtime.
//!
//! The tests in [`arena`] run again for other kinds of guests: in [`strict`] and [`copied`] with another isolation, in
//! [`modules`] as core modules. Each of these modules includes the shared files, and its `KIND` tells them which guests
//! they are about. A test that looks at the whole process (open files, mappings) or changes it runs in a child process;
//! see `guest_support::child`.

#![allow(clippy::duplicate_mod, reason = "guests of several kinds share the files of tests")]

#[path = "../guest_support/mod.rs"]
mod guest_support;

mod arena;
mod copied;
mod modules;
mod strict;

mod arbitrary_calls;
mod cache;
mod departed;
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
