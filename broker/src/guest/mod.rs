//! Wasm guests.
mod fault;
mod memory;
mod sys;
mod window;
