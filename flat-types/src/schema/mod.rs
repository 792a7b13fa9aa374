//! Types as constant values, from which layouts, fingerprints and WIT texts follow.
//!
//! ```text
//! FlatType::TYPE : &'static Type ──┬─▶ layout       size, alignment, field offsets (constant functions)
//!                                  ├─▶ fingerprint  a u64 hash of the structure, without names
//!                                  └─▶ wit          text for people and for binding generators
//! ```

mod fingerprint;
mod layout;
mod wit;

pub(crate) use fingerprint::fingerprint_of;
pub use layout::Layout;
pub(crate) use layout::{align_up, discriminant_bytes, flags_bytes};

/// A type that has a flat layout. The names are those of WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `bool`: one byte, 0 or 1.
    Bool,
    /// `u8`.
    U8,
    /// `u16`.
    U16,
    /// `u32`.
    U32,
    /// `u64`.
    U64,
    /// `s8`, Rust's `i8`.
    S8,
    /// `s16`, Rust's `i16`.
    S16,
    /// `s32`, Rust's `i32`.
    S32,
    /// `s64`, Rust's `i64`.
    S64,
    /// `f32`. Every bit pattern is valid.
    F32,
    /// `f64`. Every bit pattern is valid.
    F64,
    /// `char`: a Unicode scalar value in four bytes.
    Char,
    /// `string`: UTF-8.
    String,
    /// `list<T>`.
    List(&'static Type),
    /// A map: a list of pairs of key and value, with strictly ascending keys.
    Map(&'static Type, &'static Type),
    /// `tuple<..>`. Without elements, it is the payload of a case that has none.
    Tuple(&'static [&'static Type]),
    /// `option<T>`.
    Option(&'static Type),
    /// `result<T, E>`.
    Result(&'static Type, &'static Type),
    /// A record: a tuple with names.
    Record(&'static str, &'static [Field]),
    /// A variant: one of several cases, each with an optional payload.
    Variant(&'static str, &'static [Case]),
    /// An enum: one of several names.
    Enum(&'static str, &'static [&'static str]),
    /// Flags: a set of names, at most 64.
    Flags(&'static str, &'static [&'static str]),
}

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The field's name in the Rust source.
    pub name: &'static str,
    /// The field's type.
    pub ty: &'static Type,
}

/// A case of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// The case's name in the Rust source.
    pub name: &'static str,
    /// The type of the payload, or an empty tuple if there is none.
    pub payload: &'static Type,
}

/// The empty tuple: the payload of a case that has none.
pub(crate) const UNIT: &Type = &Type::Tuple(&[]);
