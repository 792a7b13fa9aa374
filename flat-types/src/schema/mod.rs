//! A type of the layout as a constant value: everything that is known about a type follows from it.
//!
//! ```text
//! FlatType::TYPE : &'static Type ──┬─▶ layout       size, alignment, field offsets (constant functions)
//!                                  ├─▶ fingerprint  u64 over the structure, names left out
//!                                  └─▶ wit          text for people and for bindings
//! ```

mod fingerprint;
mod layout;
mod wit;

pub(crate) use fingerprint::fingerprint_of;
pub use layout::Layout;
pub(crate) use layout::{align_up, discriminant_bytes, flags_bytes};

/// A type of the layout, as the WIT of the component model names it.
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
    /// `f32`; every bit pattern is a value.
    F32,
    /// `f64`; every bit pattern is a value.
    F64,
    /// `char`: a Unicode scalar value in four bytes.
    Char,
    /// `string`: UTF-8.
    String,
    /// `list<T>`.
    List(&'static Type),
    /// A map: a list of key and value with strictly ascending keys.
    Map(&'static Type, &'static Type),
    /// `tuple<..>`; without elements it is the absent payload of a `result`.
    Tuple(&'static [&'static Type]),
    /// `option<T>`.
    Option(&'static Type),
    /// `result<T, E>`.
    Result(&'static Type, &'static Type),
    /// A record: the layout of a tuple, with names.
    Record(&'static str, &'static [Field]),
    /// A variant: one of several cases, each with or without a payload.
    Variant(&'static str, &'static [Case]),
    /// An enum: one of several names.
    Enum(&'static str, &'static [&'static str]),
    /// Flags: a set of names, at most 64.
    Flags(&'static str, &'static [&'static str]),
}

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The field's name as it is in the source.
    pub name: &'static str,
    /// The field's type.
    pub kind: &'static Type,
}

/// A case of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// The case's name as it is in the source.
    pub name: &'static str,
    /// What the case carries; an empty tuple if nothing.
    pub payload: &'static Type,
}

/// The type without elements: what a case without payload carries.
pub(crate) const UNIT: &Type = &Type::Tuple(&[]);
