//! Native components, written in C, in the broker.

mod support;

mod calls;
mod lifecycle;
mod lines;
mod rules;
