//! Native components, written in C, in the broker.

mod support;

mod calls;
mod hostile_files;
mod lifecycle;
mod lines;
mod rules;
