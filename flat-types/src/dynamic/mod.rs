//! Messages whose type is known at run time only: for tools that look into topics.
//!
//! A topic's schema text says all that is needed to check and to read its messages, except names:
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
//! Parsing a schema allocates; checking and reading do not. Reading costs a few times what it costs with the Rust
//! type. With the feature `serde` a [`Value`] serializes in the form of the vectors in `FORMAT.md`.

mod check;
mod kind;
mod value;

use std::fmt;

use thiserror::Error;

use crate::error::FlatError;
use crate::index::Width;
use crate::schema::fingerprint_of;
use crate::validator::Validator;

use kind::Part;
pub use value::{Items, Value, VariantValue};

/// How deep types may be nested in a schema's text. Reading recurses as deep.
const DEPTH: usize = 64;

/// Why a text is no schema. `at` is an offset in bytes from the text's start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The text does not begin with `flat1/u8:`, `flat1/u16:` or `flat1/u32:`: another layout, or a later version.
    #[error("not a schema of the flat layout, version 1")]
    Version,
    /// The text is no type, or goes on after one.
    #[error("no type at offset {at}")]
    Syntax {
        /// Where it is not what it should be.
        at: usize,
    },
    /// A list's elements or a map's keys take no bytes.
    #[error("the elements at offset {at} take no bytes")]
    NoBytes {
        /// The elements' type.
        at: usize,
    },
    /// A map has keys that have no order.
    #[error("the type at offset {at} cannot be a map's key")]
    Key {
        /// The key's type.
        at: usize,
    },
    /// Types are nested deeper than 64 times.
    #[error("types are nested too deep at offset {at}")]
    TooDeep {
        /// Where it is too deep.
        at: usize,
    },
}

/// The type and index width of messages, from a schema's text.
#[derive(Clone)]
pub struct Schema {
    text: String,
    width: Width,
    root: Part,
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
    /// The schema that a text such as [`Flat::schema`](crate::Flat::schema) says. Allocates.
    ///
    /// # Errors
    ///
    /// [`SchemaError`]; any text is safe to try.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let (version, kind) = text.split_once(':').ok_or(SchemaError::Version)?;
        let width = match version {
            "flat1/u8" => Width::U8,
            "flat1/u16" => Width::U16,
            "flat1/u32" => Width::U32,
            _ => return Err(SchemaError::Version),
        };
        let root = kind::parse(kind, version.len() + 1, width)?;
        Ok(Schema { text: text.to_owned(), width, root })
    }

    /// The fingerprint, which equals [`Flat::FINGERPRINT`](crate::Flat::FINGERPRINT) of the Rust type.
    pub fn fingerprint(&self) -> u64 {
        fingerprint_of(&self.text)
    }

    /// The index width.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Checks that `bytes` are a message: all of them, and nothing else. Linear in the length; does not allocate.
    ///
    /// # Errors
    ///
    /// As [`Flat::validate`](crate::Flat::validate).
    pub fn validate(&self, bytes: &[u8]) -> Result<(), FlatError> {
        fn at_width<I: crate::Index>(root: &Part, bytes: &[u8]) -> Result<(), FlatError> {
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

    /// Validates `bytes` and gives the message's value, to be read in place.
    ///
    /// # Errors
    ///
    /// Those of [`Schema::validate`].
    pub fn access<'a>(&'a self, bytes: &'a [u8]) -> Result<Value<'a>, FlatError> {
        self.validate(bytes)?;
        Ok(value::read(&self.root, self.width, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_schema_are_refused_by_name() {
        let refused = |text: &str| Schema::parse(text).expect_err(text);
        assert_eq!(refused(""), SchemaError::Version);
        assert_eq!(refused("flat2/u32:u8"), SchemaError::Version);
        assert_eq!(refused("flat1/u64:u8"), SchemaError::Version);
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
            assert_eq!(refused(&format!("flat1/u8:{text}")), SchemaError::Syntax { at }, "{text}");
        }
        assert_eq!(refused("flat1/u8:list<tuple<>>"), SchemaError::NoBytes { at: 14 });
        assert_eq!(refused("flat1/u8:map<f32,u8>"), SchemaError::Key { at: 13 });
        let deep = format!("flat1/u8:{}u8{}", "list<".repeat(100_000), ">".repeat(100_000));
        assert!(matches!(refused(&deep), SchemaError::TooDeep { .. }));
    }
}
