//! Topics, admission, grants, statistics and the wasm host of Blockcast.

pub mod guest;
