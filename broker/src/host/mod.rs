//! One host for each way to deploy an app.
//!
//! | host | the app is | isolation |
//! | --- | --- | --- |
//! | [`linked`] | part of the program | none |
//! | [`library`] | a shared library that the broker loads | none |
//! | [`process`] | a program, or a shared library, in a process of its own | that of the system's processes |
//! | `wasm`, with the feature of that name | a wasm guest | a sandbox |

pub mod library;
pub(crate) mod linked;
pub mod process;
#[cfg(feature = "wasm")]
pub mod wasm;
