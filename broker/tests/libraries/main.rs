//! Native components, written in C, in the broker.

mod support;

mod calls;
mod direct;
mod hostile_files;
mod lifecycle;
mod rules;
