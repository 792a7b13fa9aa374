//! The kinds of types: how each is validated, read and built.

mod list;
mod list_builder;
mod scalar;
mod string;
mod tuple;

pub use list::{Items, ListIter, ListView};
pub use list_builder::{ListBuilder, ListItems};
pub use scalar::{Number, ScalarBuilder};
pub use string::StringBuilder;
pub use tuple::TupleBuilder;
