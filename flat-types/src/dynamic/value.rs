//! A value whose type is known only at run time, read in place.

use std::fmt;

use super::types::{Kind, Type};
use crate::flat_type::{head, tail};
use crate::index::{Index, Width};
use crate::schema::discriminant_bytes;

/// A value in a message, read in place. The parts of a compound are read when they are accessed.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A bool.
    Bool(bool),
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A character.
    Char(char),
    /// A string.
    String(&'a str),
    /// The elements of a list.
    List(Elements<'a>),
    /// The entries of a map: tuples of key and value, in the order of their keys.
    Map(Elements<'a>),
    /// The elements of a tuple or the fields of a record.
    Tuple(Elements<'a>),
    /// A case of a variant, enum, option (0 is none) or result (0 is ok).
    Variant(VariantValue<'a>),
    /// The bits of a set of flags.
    Flags(u64),
}

/// The elements of a list, map or tuple.
#[derive(Clone, Copy)]
pub struct Elements<'a> {
    types: ElementTypes<'a>,
    width: Width,
    /// The rest of the message, starting with the first element's header.
    bytes: &'a [u8],
    count: usize,
}

#[derive(Clone, Copy)]
enum ElementTypes<'a> {
    /// All elements have one type.
    Same(&'a Type),
    /// Each element has its own offset and type.
    Each(&'a [(usize, Type)]),
}

impl<'a> Elements<'a> {
    /// The number of elements.
    pub fn len(self) -> usize {
        self.count
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Returns element `n`, counted from 0, or `None` past the end.
    pub fn get(self, n: usize) -> Option<Value<'a>> {
        if n >= self.count {
            return None;
        }
        let (offset, ty) = match self.types {
            ElementTypes::Same(ty) => (n * ty.size, ty),
            ElementTypes::Each(types) => types.get(n).map(|(offset, ty)| (*offset, ty))?,
        };
        Some(read(ty, self.width, tail(self.bytes, offset)))
    }

    /// Iterates over the elements in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        (0..self.count).map_while(move |n| self.get(n))
    }
}

/// A case of a variant.
#[derive(Clone, Copy)]
pub struct VariantValue<'a> {
    case: u32,
    payload: Option<(&'a Type, Width, &'a [u8])>,
}

impl<'a> VariantValue<'a> {
    /// The number of the case, counted from 0.
    pub fn case(self) -> u32 {
        self.case
    }

    /// Returns the payload of the case, if it has one.
    pub fn payload(self) -> Option<Value<'a>> {
        self.payload.map(|(ty, width, bytes)| read(ty, width, bytes))
    }
}

/// Reads an unsigned integer of `size` bytes.
pub(super) fn unsigned(bytes: &[u8], size: usize) -> u64 {
    match size {
        1 => u8::from_le_bytes(head(bytes)).into(),
        2 => u16::from_le_bytes(head(bytes)).into(),
        4 => u32::from_le_bytes(head(bytes)).into(),
        _ => u64::from_le_bytes(head(bytes)),
    }
}

/// Returns the value whose header is at the start of `bytes`. The value was checked.
pub(super) fn read<'a>(ty: &'a Type, width: Width, bytes: &'a [u8]) -> Value<'a> {
    let elements = |element: &'a Type| {
        let (delta, count) = pair(width, bytes);
        Elements { types: ElementTypes::Same(element), width, bytes: tail(bytes, delta), count }
    };
    match &ty.kind {
        Kind::Bool => Value::Bool(head::<1>(bytes) != [0]),
        Kind::Unsigned => Value::Unsigned(unsigned(bytes, ty.size)),
        Kind::Signed => Value::Signed(match ty.size {
            1 => i8::from_le_bytes(head(bytes)).into(),
            2 => i16::from_le_bytes(head(bytes)).into(),
            4 => i32::from_le_bytes(head(bytes)).into(),
            _ => i64::from_le_bytes(head(bytes)),
        }),
        Kind::Float if ty.size == 4 => Value::F32(f32::from_le_bytes(head(bytes))),
        Kind::Float => Value::F64(f64::from_le_bytes(head(bytes))),
        Kind::Char => Value::Char(char::from_u32(u32::from_le_bytes(head(bytes))).unwrap_or_default()),
        Kind::String => {
            let (delta, len) = pair(width, bytes);
            let text = tail(bytes, delta).get(..len).unwrap_or_default();
            // Check the text once more: a tool can afford it, and it avoids unsafe code.
            Value::String(std::str::from_utf8(text).unwrap_or_default())
        }
        Kind::List(element) => Value::List(elements(element)),
        Kind::Map(entry) => Value::Map(elements(entry)),
        Kind::Tuple(types) => {
            Value::Tuple(Elements { types: ElementTypes::Each(types), width, bytes, count: types.len() })
        }
        Kind::Variant { payload, cases } => {
            let case = unsigned(bytes, discriminant_bytes(cases.len())) as u32;
            let ty = cases.get(case as usize).and_then(Option::as_ref);
            let payload = ty.map(|ty| (ty, width, tail(bytes, *payload)));
            Value::Variant(VariantValue { case, payload })
        }
        Kind::Flags(_) => Value::Flags(unsigned(bytes, ty.size)),
    }
}

/// Reads the two indices of a header at the start of `bytes`.
fn pair(width: Width, bytes: &[u8]) -> (usize, usize) {
    match width {
        Width::U8 => u8::read_pair(bytes),
        Width::U16 => u16::read_pair(bytes),
        Width::U32 => u32::read_pair(bytes),
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => value.fmt(f),
            Value::Unsigned(value) => fmt::Debug::fmt(value, f),
            Value::Signed(value) => fmt::Debug::fmt(value, f),
            Value::F32(value) => value.fmt(f),
            Value::F64(value) => value.fmt(f),
            Value::Char(value) => value.fmt(f),
            Value::String(value) => value.fmt(f),
            Value::List(elements) => elements.fmt(f),
            Value::Map(elements) => {
                let mut map = f.debug_map();
                for entry in elements.iter() {
                    if let Value::Tuple(pair) = entry
                        && let (Some(key), Some(value)) = (pair.get(0), pair.get(1))
                    {
                        map.entry(&key, &value);
                    }
                }
                map.finish()
            }
            Value::Tuple(elements) => {
                let mut tuple = f.debug_tuple("");
                for element in elements.iter() {
                    tuple.field(&element);
                }
                tuple.finish()
            }
            Value::Variant(variant) => variant.fmt(f),
            Value::Flags(bits) => write!(f, "{bits:#b}"),
        }
    }
}

impl fmt::Debug for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for VariantValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format_args!("case {}", self.case).to_string();
        match self.payload() {
            Some(payload) => f.debug_tuple(&name).field(&payload).finish(),
            None => f.write_str(&name),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn float<S: serde::Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
            if value.is_nan() {
                serializer.serialize_str("nan")
            } else if value.is_infinite() {
                serializer.serialize_str(if value > 0.0 { "inf" } else { "-inf" })
            } else {
                serializer.serialize_f64(value)
            }
        }
        match self {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Unsigned(value) | Value::Flags(value) => serializer.serialize_u64(*value),
            Value::Signed(value) => serializer.serialize_i64(*value),
            Value::F32(value) => float((*value).into(), serializer),
            Value::F64(value) => float(*value, serializer),
            Value::Char(value) => serializer.serialize_char(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::List(elements) | Value::Map(elements) | Value::Tuple(elements) => {
                serializer.collect_seq(elements.iter())
            }
            Value::Variant(variant) => match variant.payload() {
                Some(payload) => serde::Serialize::serialize(&(variant.case(), payload), serializer),
                None => serde::Serialize::serialize(&(variant.case(),), serializer),
            },
        }
    }
}
