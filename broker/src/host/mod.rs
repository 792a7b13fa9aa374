//! One host for each way to deploy an app.
//!
//! | host | the app is | isolation |
//! | --- | --- | --- |
//! | [`linked`] | part of the program | none |
//! | [`library`] | a shared library that the broker loads | none |
//! | `wasm`, with the feature of that name | a wasm guest | a sandbox |

pub mod library;
pub(crate) mod linked;
#[cfg(feature = "wasm")]
pub mod wasm;
