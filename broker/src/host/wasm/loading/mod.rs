//! How a guest's code is accepted and compiled.
//!
//! ```text
//!  bytes ── text format? ──▶ binary ── check ──▶ compile ──▶ compiled code ──▶ cache, program
//!            text_bytes        LoadLimits     │ in this process,
//!                                             └ or in a child process with limits of its own
//! ```
//!
//! Two layers keep hostile code from exhausting the host: `check` bounds what the code asks of the compiler
//! before it is compiled, and a [`CompilerProcess`] bounds what the compiler then takes. The first is always
//! on; the second is the default of the command line tool and an option of
//! [`LoadOptions`](crate::LoadOptions).

mod check;
mod child;
mod compiler;
mod error;
mod function;
mod kind;
mod limits;

pub(crate) use check::{Checked, check};
pub use child::compile_child_main;
pub(crate) use compiler::Outcome;
pub use compiler::{CompilerError, CompilerProcess};
pub use error::LoadError;
pub(crate) use function::Refused;
pub(crate) use kind::Kind;
pub(crate) use limits::Exceeded;
pub use limits::{LoadLimit, LoadLimits, UnknownLoadLimit};
