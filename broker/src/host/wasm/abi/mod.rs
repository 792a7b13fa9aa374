//! How values cross the boundary between guests and the host, whatever the host functions do: nothing here knows a
//! subscription or a publisher.
//!
//! [`link`] puts one definition of each host function behind the imports of both kinds of guests: components, typed by the
//! engine ([`component`]), and core modules ([`module`], [`canonical`], [`handles`]). [`values`] and [`text`] are the
//! values of the WIT package, [`interfaces`] its names, and [`store`] what is needed of a guest's data.

pub(crate) mod canonical;
pub(crate) mod component;
pub(crate) mod handles;
pub(crate) mod interfaces;
pub(crate) mod link;
pub(crate) mod module;
pub(crate) mod store;
pub(crate) mod text;
pub(crate) mod values;
