//! Validation with a type that is known only at run time, in the same pass as with Rust types.

use std::cmp::Ordering;

use super::types::{Kind, Type};
use super::value::{self, Value};
use crate::error::FlatError;
use crate::flat_type::tail;
use crate::index::Index;
use crate::schema::discriminant_bytes;
use crate::validator::Validator;

/// Checks the value whose header starts at offset `at`. The caller has checked that the header is in the
/// message.
pub(super) fn check<I: Index>(
    ty: &Type,
    validator: &mut Validator<'_, I>,
    at: usize,
) -> Result<(), FlatError> {
    match &ty.kind {
        Kind::Unsigned | Kind::Signed | Kind::Float => Ok(()),
        Kind::Bool => validator.discriminant(at, 2).map(|_| ()),
        Kind::Char => {
            let value = u32::from_le_bytes(validator.read(at)?);
            char::from_u32(value).map(|_| ()).ok_or(FlatError::Char { at, value })
        }
        Kind::String => {
            let region = validator.region(at, 1, 1)?;
            let text = validator.bytes().get(region.start..validator.cursor()).unwrap_or_default();
            let wrong =
                |error: std::str::Utf8Error| FlatError::Utf8 { at: region.start + error.valid_up_to() };
            std::str::from_utf8(text).map(|_| ()).map_err(wrong)
        }
        Kind::List(element) => {
            let region = validator.region(at, element.size, element.align)?;
            if matches!(element.kind, Kind::Unsigned | Kind::Signed | Kind::Float) {
                return Ok(());
            }
            (0..region.count).try_for_each(|n| check(element, validator, region.start + n * element.size))
        }
        Kind::Map(entry) => {
            let region = validator.region(at, entry.size, entry.align)?;
            let mut previous = None;
            for n in 0..region.count {
                let at = region.start + n * entry.size;
                check(entry, validator, at)?;
                let key = key(entry, validator, at);
                if previous.is_some_and(|previous| compare(previous, key) != Ordering::Less) {
                    return Err(FlatError::KeyOrder { at });
                }
                previous = Some(key);
            }
            Ok(())
        }
        Kind::Tuple(elements) => {
            let mut end = at;
            for (offset, element) in elements {
                validator.zeros(end, at + offset)?;
                check(element, validator, at + offset)?;
                end = at + offset + element.size;
            }
            validator.zeros(end, at + ty.size)
        }
        Kind::Variant { payload, cases } => {
            let case = validator.discriminant(at, cases.len())?;
            let start = at + payload;
            validator.zeros(at + discriminant_bytes(cases.len()), start)?;
            let mut end = start;
            if let Some(Some(payload)) = cases.get(case as usize) {
                check(payload, validator, start)?;
                end += payload.size;
            }
            validator.zeros(end, at + ty.size)
        }
        Kind::Flags(labels) => {
            let value = value::unsigned(tail(validator.bytes(), at), ty.size);
            if value.checked_shr(*labels).unwrap_or(0) == 0 {
                Ok(())
            } else {
                Err(FlatError::Discriminant { at, value })
            }
        }
    }
}

/// Returns the key of the entry at `at`, which was checked.
fn key<'a, I: Index>(entry: &'a Type, validator: &Validator<'a, I>, at: usize) -> Value<'a> {
    match value::read(entry, I::WIDTH, tail(validator.bytes(), at)) {
        Value::Tuple(elements) => elements.get(0).unwrap_or(Value::Bool(false)),
        other => other,
    }
}

/// Compares two keys of one type.
fn compare(a: Value<'_>, b: Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(&b),
        (Value::Unsigned(a), Value::Unsigned(b)) => a.cmp(&b),
        (Value::Signed(a), Value::Signed(b)) => a.cmp(&b),
        (Value::Char(a), Value::Char(b)) => a.cmp(&b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Tuple(a), Value::Tuple(b)) => {
            let different = a.iter().zip(b.iter()).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
            different.unwrap_or(Ordering::Equal)
        }
        _ => Ordering::Equal,
    }
}
