//! How values cross the boundary between guests and the host. Nothing here depends on what the host functions
//! do.
//!
//! [`link`] puts one definition of each host function behind the imports of both kinds of guests: components,
//! which the engine types ([`component`]), and core modules ([`module`], [`canonical`], [`handles`]).
//! [`values`] and [`text`] hold the values of the WIT package, [`interfaces`] its names, and [`store`] the
//! part of a guest's data that this needs.

pub(crate) mod canonical;
pub(crate) mod component;
pub(crate) mod handles;
pub(crate) mod interfaces;
pub(crate) mod link;
pub(crate) mod module;
pub(crate) mod store;
pub(crate) mod text;
pub(crate) mod values;
