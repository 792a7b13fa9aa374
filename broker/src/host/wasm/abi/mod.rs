//! The functions that a guest imports, and how their values cross the boundary.
//!
//! [`link`] puts one definition of each function behind the imports of components (typed by the engine) and of core
//! modules ([`module`], [`canonical`], [`handles`]). [`functions`] and [`block_functions`] define them; [`values`] are
//! the values of the WIT package.

pub(crate) mod block_functions;
pub(crate) mod canonical;
pub(crate) mod functions;
pub(crate) mod handles;
pub(crate) mod link;
pub(crate) mod module;
pub(crate) mod values;
