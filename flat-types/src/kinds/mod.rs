//! The kinds of types: how each is validated, read and built.

mod choice;
mod flags;
mod list;
mod list_builder;
mod map;
mod map_builder;
mod option;
mod record;
mod rewritten;
mod scalar;
mod string;
mod tuple;

pub use choice::{Choice, ChoiceBuilder};
pub use flags::Bits;
pub use list::{Items, ListIter, ListView};
pub use list_builder::{ListBuilder, ListItems};
pub use map::{Key, MapView};
pub use map_builder::{MapBuilder, MapEntries};
pub use option::{OptionBuilder, ResultBuilder, UnitBuilder};
pub use record::{RecordBuilder, RecordValidator, RecordView};
pub use rewritten::{Rewritable, Rewritten};
pub use scalar::{Number, ScalarBuilder};
pub use string::StringBuilder;
pub use tuple::TupleBuilder;
