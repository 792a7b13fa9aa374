//! One host for each way to deploy an app.
//!
//! | host | the app is | isolation |
//! | --- | --- | --- |
//! | [`linked`] | part of the program | none |
//! | [`library`] | a shared library that the broker loads | none |
//! | [`wasm`] | a wasm guest | a sandbox |

pub mod library;
pub(crate) mod linked;
pub mod wasm;
