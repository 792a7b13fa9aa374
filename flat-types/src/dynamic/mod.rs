//! Reading messages whose type is known only at run time, for tools that inspect topics.
//!
//! A topic's schema text contains everything that is needed to check and read its messages, except names:
//!
//! ```
//! use blockcast_flat_types::{Flat, dynamic};
//!
//! let bytes = Flat::<Vec<(String, u32)>>::to_vec([("one", 1), ("two", 2)])?;
//!
//! let schema = dynamic::Schema::parse("flat1/u32:list<tuple<string,u32>>")?;
//! let value = schema.access(&bytes)?;
//! assert_eq!(format!("{value:?}"), r#"[("one", 1), ("two", 2)]"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Parsing a schema allocates. Checking and reading do not. Reading takes a few times as long as with the
//! Rust type. With the feature `serde`, a [`Value`] serializes in the form that `FORMAT.md` describes under
//! "Vectors".

mod check;
mod types;
mod value;

use std::fmt;

use thiserror::Error;

use crate::error::FlatError;
use crate::index::Width;
use crate::schema::fingerprint_of;
use crate::validator::Validator;

use types::Type;
pub use value::{Elements, Value, VariantValue};

/// The reason why a text is not a schema. `at` is an offset in bytes from the text's start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The text does not begin with `flat1/u8:`, `flat1/u16:` or `flat1/u32:`. It belongs to another layout
    /// or version.
    #[error("not a schema of the flat layout, version 1")]
    Version,
    /// The text is not a type, or continues after a type.
    #[error("syntax error at offset {at}")]
    Syntax {
        /// The offset of the unexpected text.
        at: usize,
    },
    /// The elements of a list or the keys of a map have an empty type.
    #[error("the type at offset {at} is empty, so it cannot be the element of a list or the key of a map")]
    NoBytes {
        /// The offset of the element type or key type.
        at: usize,
    },
    /// The keys of a map have a type without an order.
    #[error("the type at offset {at} cannot be the key of a map")]
    Key {
        /// The offset of the key type.
        at: usize,
    },
    /// Types are nested more than 64 levels deep.
    #[error("types are nested too deep at offset {at}")]
    TooDeep {
        /// The offset of the first type that is too deep.
        at: usize,
    },
}

/// The type and index width of messages, parsed from a schema's text.
#[derive(Clone)]
pub struct Schema {
    text: String,
    width: Width,
    root: Type,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.text).finish()
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Schema {
    /// Parses a schema's text, which [`Flat::schema`](crate::Flat::schema) returns for a Rust type.
    /// Allocates.
    ///
    /// # Errors
    ///
    /// Returns a [`SchemaError`] if the text is not a schema. Untrusted text is safe to parse.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let (version, root) = text.split_once(':').ok_or(SchemaError::Version)?;
        let width = match version {
            "flat1/u8" => Width::U8,
            "flat1/u16" => Width::U16,
            "flat1/u32" => Width::U32,
            _ => return Err(SchemaError::Version),
        };
        let root = types::parse(root, version.len() + 1, width)?;
        Ok(Schema { text: text.to_owned(), width, root })
    }

    /// The fingerprint. Equals [`Flat::FINGERPRINT`](crate::Flat::FINGERPRINT) of the Rust type.
    pub fn fingerprint(&self) -> u64 {
        fingerprint_of(&self.text)
    }

    /// The index width.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Checks that `bytes` are exactly one message. Takes time linear in the length, and does not allocate.
    ///
    /// # Errors
    ///
    /// Returns the first violation found, like [`Flat::validate`](crate::Flat::validate).
    pub fn validate(&self, bytes: &[u8]) -> Result<(), FlatError> {
        fn at_width<I: crate::Index>(root: &Type, bytes: &[u8]) -> Result<(), FlatError> {
            let mut validator = Validator::<I>::new(bytes, root.size)?;
            check::check(root, &mut validator, 0)?;
            validator.finish()
        }
        match self.width {
            Width::U8 => at_width::<u8>(&self.root, bytes),
            Width::U16 => at_width::<u16>(&self.root, bytes),
            Width::U32 => at_width::<u32>(&self.root, bytes),
        }
    }

    /// Validates `bytes` and returns the message's value, read in place.
    ///
    /// # Errors
    ///
    /// Fails if [`Schema::validate`] fails.
    pub fn access<'a>(&'a self, bytes: &'a [u8]) -> Result<Value<'a>, FlatError> {
        self.validate(bytes)?;
        Ok(value::read(&self.root, self.width, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_not_a_schema_is_an_error_with_its_offset() {
        let error = |text: &str| Schema::parse(text).expect_err(text);
        assert_eq!(error(""), SchemaError::Version);
        assert_eq!(error("flat2/u32:u8"), SchemaError::Version);
        assert_eq!(error("flat1/u64:u8"), SchemaError::Version);
        for (text, at) in [
            ("", 9),
            ("u9", 9),
            ("u8 ", 9),
            ("u8,u8", 11),
            ("list", 13),
            ("list<>", 14),
            ("list<u8", 16),
            ("list<u8,u8>", 16),
            ("map<u8>", 15),
            ("u8<u8>", 11),
            ("flags<0>", 15),
            ("flags<65>", 15),
            ("flags<x>", 15),
            ("flags<99999999999999999999999>", 15),
            ("variant<>", 17),
            ("variant<_,>", 19),
            ("tuple<_>", 15),
            ("list<u8>>", 17),
        ] {
            assert_eq!(error(&format!("flat1/u8:{text}")), SchemaError::Syntax { at }, "{text}");
        }
        assert_eq!(error("flat1/u8:list<tuple<>>"), SchemaError::NoBytes { at: 14 });
        assert_eq!(error("flat1/u8:map<f32,u8>"), SchemaError::Key { at: 13 });
        let deep = format!("flat1/u8:{}u8{}", "list<".repeat(100_000), ">".repeat(100_000));
        assert!(matches!(error(&deep), SchemaError::TooDeep { .. }));
    }
}
