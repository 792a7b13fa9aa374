//! Owned samples: [`raw`] is the sample, [`window`] keeps its cost low.

pub(crate) mod raw;
pub(crate) mod window;
