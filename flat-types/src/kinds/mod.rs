//! The kinds of types, and how each is validated, read and built.

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
mod variant;

pub use flags::Bits;
pub use list::{Items, ListIter, ListView};
pub use list_builder::{ListBuilder, ListWriter};
pub use map::{Key, MapView};
pub use map_builder::{MapBuilder, MapWriter};
pub use option::{OptionBuilder, ResultBuilder, UnitBuilder};
pub use record::{RecordBuilder, RecordValidator, RecordView};
pub use rewritten::{Rewritable, Rewritten};
pub use scalar::{Number, ScalarBuilder};
pub use string::StringBuilder;
pub use tuple::TupleBuilder;
pub use variant::{Variant, VariantBuilder};
