//! A value of a type that is known at run time, read in place.

use std::fmt;

use super::kind::{Kind, Part};
use crate::flat_type::{head, tail};
use crate::index::{Index, Width};
use crate::schema::discriminant_bytes;

/// A value in a message. Compounds are read when they are asked for their parts; nothing is copied.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A bool.
    Bool(bool),
    /// An integer without sign, of any width.
    Unsigned(u64),
    /// An integer with sign, of any width.
    Signed(i64),
    /// A float of four bytes.
    F32(f32),
    /// A float of eight bytes.
    F64(f64),
    /// A character.
    Char(char),
    /// A string.
    String(&'a str),
    /// The elements of a list.
    List(Items<'a>),
    /// The entries of a map, each a tuple of key and value, keys ascending.
    Map(Items<'a>),
    /// The elements of a tuple or the fields of a record.
    Tuple(Items<'a>),
    /// A case of a variant, an enum, an option (0 is none) or a result (0 is ok).
    Variant(VariantValue<'a>),
    /// The bits of a set of flags.
    Flags(u64),
}

/// The elements of a list, map or tuple.
#[derive(Clone, Copy)]
pub struct Items<'a> {
    parts: Parts<'a>,
    width: Width,
    /// The message from the first element's header on.
    bytes: &'a [u8],
    count: usize,
}

#[derive(Clone, Copy)]
enum Parts<'a> {
    /// All are of one type.
    Same(&'a Part),
    /// Each at its offset.
    Each(&'a [(usize, Part)]),
}

impl<'a> Items<'a> {
    /// How many.
    pub fn len(self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Element `n`, counted from 0; `None` past the end.
    pub fn get(self, n: usize) -> Option<Value<'a>> {
        if n >= self.count {
            return None;
        }
        let (offset, part) = match self.parts {
            Parts::Same(part) => (n * part.size, part),
            Parts::Each(parts) => parts.get(n).map(|(offset, part)| (*offset, part))?,
        };
        Some(read(part, self.width, tail(self.bytes, offset)))
    }

    /// The elements in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        (0..self.count).map_while(move |n| self.get(n))
    }
}

/// A case of a variant.
#[derive(Clone, Copy)]
pub struct VariantValue<'a> {
    case: u32,
    payload: Option<(&'a Part, Width, &'a [u8])>,
}

impl<'a> VariantValue<'a> {
    /// Which case, counted from 0.
    pub fn case(self) -> u32 {
        self.case
    }

    /// What the case carries.
    pub fn payload(self) -> Option<Value<'a>> {
        self.payload.map(|(part, width, bytes)| read(part, width, bytes))
    }
}

/// An integer of `size` bytes.
pub(super) fn unsigned(bytes: &[u8], size: usize) -> u64 {
    match size {
        1 => u8::from_le_bytes(head(bytes)).into(),
        2 => u16::from_le_bytes(head(bytes)).into(),
        4 => u32::from_le_bytes(head(bytes)).into(),
        _ => u64::from_le_bytes(head(bytes)),
    }
}

/// The value whose header is at the start of `bytes` and was checked.
pub(super) fn read<'a>(part: &'a Part, width: Width, bytes: &'a [u8]) -> Value<'a> {
    let items = |element: &'a Part| {
        let (delta, count) = pair(width, bytes);
        Items { parts: Parts::Same(element), width, bytes: tail(bytes, delta), count }
    };
    match &part.kind {
        Kind::Bool => Value::Bool(head::<1>(bytes) != [0]),
        Kind::Unsigned => Value::Unsigned(unsigned(bytes, part.size)),
        Kind::Signed => Value::Signed(match part.size {
            1 => i8::from_le_bytes(head(bytes)).into(),
            2 => i16::from_le_bytes(head(bytes)).into(),
            4 => i32::from_le_bytes(head(bytes)).into(),
            _ => i64::from_le_bytes(head(bytes)),
        }),
        Kind::Float if part.size == 4 => Value::F32(f32::from_le_bytes(head(bytes))),
        Kind::Float => Value::F64(f64::from_le_bytes(head(bytes))),
        Kind::Char => Value::Char(char::from_u32(u32::from_le_bytes(head(bytes))).unwrap_or_default()),
        Kind::String => {
            let (delta, len) = pair(width, bytes);
            let text = tail(bytes, delta).get(..len).unwrap_or_default();
            // Checked once more: a tool can afford it, and no promise is needed.
            Value::String(std::str::from_utf8(text).unwrap_or_default())
        }
        Kind::List(element) => Value::List(items(element)),
        Kind::Map(entry) => Value::Map(items(entry)),
        Kind::Tuple(parts) => {
            Value::Tuple(Items { parts: Parts::Each(parts), width, bytes, count: parts.len() })
        }
        Kind::Variant { payload, cases } => {
            let case = unsigned(bytes, discriminant_bytes(cases.len())) as u32;
            let part = cases.get(case as usize).and_then(Option::as_ref);
            let payload = part.map(|part| (part, width, tail(bytes, *payload)));
            Value::Variant(VariantValue { case, payload })
        }
        Kind::Flags(_) => Value::Flags(unsigned(bytes, part.size)),
    }
}

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
            Value::List(items) => items.fmt(f),
            Value::Map(items) => {
                let mut map = f.debug_map();
                for entry in items.iter() {
                    if let Value::Tuple(pair) = entry
                        && let (Some(key), Some(value)) = (pair.get(0), pair.get(1))
                    {
                        map.entry(&key, &value);
                    }
                }
                map.finish()
            }
            Value::Tuple(items) => {
                let mut tuple = f.debug_tuple("");
                for item in items.iter() {
                    tuple.field(&item);
                }
                tuple.finish()
            }
            Value::Variant(variant) => variant.fmt(f),
            Value::Flags(bits) => write!(f, "{bits:#b}"),
        }
    }
}

impl fmt::Debug for Items<'_> {
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
            Value::List(items) | Value::Map(items) | Value::Tuple(items) => {
                serializer.collect_seq(items.iter())
            }
            Value::Variant(variant) => match variant.payload() {
                Some(payload) => serde::Serialize::serialize(&(variant.case(), payload), serializer),
                None => serde::Serialize::serialize(&(variant.case(),), serializer),
            },
        }
    }
}
