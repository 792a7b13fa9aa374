//! Several processes share their topics. Each test runs this program again for the other processes.

mod arrivals;
mod deaths;
mod hosts;
mod messages;
mod refusals;
mod support;
mod walls;
