//! Generated from the WIT package: the functions that the host offers, and the shape of the export.
//!
//! Apps use [`Subscription`](super::Subscription), [`Writer`](super::Writer) and the session instead.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::missing_safety_doc,
    clippy::pedantic,
    clippy::should_implement_trait,
    reason = "generated code"
)]

wit_bindgen::generate!({
    path: "wit",
    world: "app",
    pub_export_macro: true,
    export_macro_name: "export_app",
    default_bindings_module: "blockcast_blocks::client::export",
    generate_all,
});
