//! Prints the values of messages whose schema's name describes the layout.

use std::fmt::Write as _;

use blockcast::flat::dynamic::{Schema, Value as Flat};
use blockcast::text;
use serde_json::{Value, json};

/// Reads messages of one schema.
#[derive(Debug)]
pub enum Decoder {
    /// The name of a flat schema is its whole type.
    Flat(Schema),
    /// Numbers of this type.
    Numbers(Number),
    /// Anything else is shown as text, or as hexadecimal digits.
    Bytes,
}

/// The type of a number in a `Pod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
}

impl Number {
    /// The type in a schema's name such as `pod:u32:4`.
    fn of_schema(name: &str) -> Option<Self> {
        let (number, size) = name.strip_prefix("pod:")?.split_once(':')?;
        let found = match number {
            "u8" => Self::Unsigned(1),
            "u16" => Self::Unsigned(2),
            "u32" => Self::Unsigned(4),
            "u64" => Self::Unsigned(8),
            "u128" => Self::Unsigned(16),
            "i8" => Self::Signed(1),
            "i16" => Self::Signed(2),
            "i32" => Self::Signed(4),
            "i64" => Self::Signed(8),
            "i128" => Self::Signed(16),
            "f32" => Self::Float(4),
            "f64" => Self::Float(8),
            _ => return None,
        };
        (size.parse() == Ok(found.size())).then_some(found)
    }

    fn size(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) | Self::Float(size) => size,
        }
    }

    /// Reads numbers in the byte order of the machine. `None` if a part of one is left.
    fn read(self, bytes: &[u8]) -> Option<Vec<Value>> {
        macro_rules! read {
            ($type:ty, $json:expr) => {
                bytes.as_chunks().0.iter().map(|&bytes| $json(<$type>::from_ne_bytes(bytes))).collect()
            };
        }
        if !bytes.len().is_multiple_of(self.size()) {
            return None;
        }
        Some(match self {
            Self::Unsigned(1) => read!(u8, Value::from),
            Self::Unsigned(2) => read!(u16, Value::from),
            Self::Unsigned(4) => read!(u32, Value::from),
            Self::Unsigned(8) => read!(u64, Value::from),
            // Beyond the range that readers of JSON accept.
            Self::Unsigned(_) => read!(u128, |number: u128| Value::from(number.to_string())),
            Self::Signed(1) => read!(i8, Value::from),
            Self::Signed(2) => read!(i16, Value::from),
            Self::Signed(4) => read!(i32, Value::from),
            Self::Signed(8) => read!(i64, Value::from),
            Self::Signed(_) => read!(i128, |number: i128| Value::from(number.to_string())),
            Self::Float(4) => read!(f32, float32),
            Self::Float(_) => read!(f64, float64),
        })
    }
}

impl Decoder {
    /// The decoder for messages of a schema with this name.
    pub fn new(schema: &str) -> Self {
        if let Some(number) = Number::of_schema(schema) {
            return Self::Numbers(number);
        }
        let flat = schema.starts_with("flat").then(|| Schema::parse(schema).ok()).flatten();
        flat.map_or(Self::Bytes, Self::Flat)
    }

    /// Returns the value as JSON. Bytes become a text, or an object with hexadecimal digits.
    pub fn json(&self, bytes: &[u8]) -> Value {
        self.decode(bytes).unwrap_or_else(|| match std::str::from_utf8(bytes) {
            Ok(text) if matches!(self, Self::Bytes) => Value::from(text),
            _ => json!({ "hex": hex(bytes) }),
        })
    }

    /// Returns the value on one line, cut to about `limit` bytes.
    pub fn text(&self, bytes: &[u8], limit: usize) -> String {
        if let Some(value) = self.decode(bytes) {
            let shown = text::line(&value.to_string()).into_owned();
            let end = shown.floor_char_boundary(limit);
            let cut = if end < shown.len() { " …" } else { "" };
            return format!("{}{cut}", &shown[..end]);
        }
        let shown = &bytes[..bytes.len().min(limit)];
        let text = match std::str::from_utf8(shown) {
            Ok(text) => Some(text),
            // The limit may cut a character.
            Err(error) if error.error_len().is_none() && shown.len() < bytes.len() => {
                std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        match text.filter(|_| matches!(self, Self::Bytes)) {
            Some(text) => {
                let rest = if text.len() < bytes.len() { " …" } else { "" };
                format!("{text:?}{rest}")
            }
            None => format!("{}{}", hex(shown), if shown.len() < bytes.len() { " …" } else { "" }),
        }
    }

    /// Decodes the value, if the bytes have the schema's layout.
    fn decode(&self, bytes: &[u8]) -> Option<Value> {
        match self {
            Self::Flat(schema) => schema.access(bytes).ok().map(flat),
            Self::Numbers(number) => number.read(bytes).map(Value::from),
            Self::Bytes => None,
        }
    }
}

/// A flat value in the form of FORMAT.md's test vectors. Names of fields and cases do not travel.
fn flat(value: Flat<'_>) -> Value {
    match value {
        Flat::Bool(value) => value.into(),
        Flat::Unsigned(value) | Flat::Flags(value) => value.into(),
        Flat::Signed(value) => value.into(),
        Flat::F32(value) => float32(value),
        Flat::F64(value) => float64(value),
        Flat::Char(value) => value.to_string().into(),
        Flat::String(value) => value.into(),
        Flat::List(elements) | Flat::Map(elements) | Flat::Tuple(elements) => {
            elements.iter().map(flat).collect()
        }
        Flat::Variant(variant) => {
            std::iter::once(variant.case().into()).chain(variant.payload().map(flat)).collect()
        }
        _ => Value::Null,
    }
}

/// Formats a float with the fewest digits that identify it.
fn float32(value: f32) -> Value {
    value.to_string().parse().map_or_else(|_| float64(value.into()), float64)
}

/// A float; JSON has no numbers for those that are not finite.
fn float64(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| value.to_string().to_lowercase().into(), Value::Number)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string never fails.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_the_name_of_their_schema() {
        let bytes: Vec<u8> = [1_i16, -2].iter().flat_map(|number| number.to_ne_bytes()).collect();
        assert_eq!(Decoder::new("pod:i16:2").json(&bytes), json!([1, -2]));
        assert_eq!(Decoder::new("pod:f32:4").json(&0.1_f32.to_ne_bytes()), json!([0.1]));
        assert_eq!(Decoder::new("pod:f64:8").json(&f64::INFINITY.to_ne_bytes()), json!(["inf"]));
        assert_eq!(
            Decoder::new("pod:u128:16").json(&u128::MAX.to_ne_bytes()),
            json!([u128::MAX.to_string()])
        );
        // A part of a number, and a type of the user that only has the name of a number.
        assert_eq!(Decoder::new("pod:i16:2").json(&bytes[..3]), json!({ "hex": hex(&bytes[..3]) }));
        assert!(matches!(Decoder::new("pod:u32:8"), Decoder::Bytes));
    }

    #[test]
    fn flat_values_are_read_by_their_type_and_broken_ones_shown_as_digits() {
        // The example of FORMAT.md: a record of a u16, a string and a list of f32.
        let bytes = [
            7, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 97, 98, 0, 0, 0, 0, 128, 63, 0, 0,
            0, 64,
        ];
        let decoder = Decoder::new("flat1/u32:tuple<u16,string,list<f32>>");
        assert_eq!(decoder.json(&bytes), json!([7, "ab", [1.0, 2.0]]));
        assert_eq!(decoder.text(&bytes, 100), r#"[7,"ab",[1.0,2.0]]"#);
        assert_eq!(decoder.text(&bytes, 3), "[7, …");
        assert_eq!(decoder.json(&bytes[1..]), json!({ "hex": hex(&bytes[1..]) }));
    }

    #[test]
    fn bytes_are_shown_as_escaped_text_or_as_digits_and_cut() {
        let decoder = Decoder::new("bytes");
        assert_eq!(decoder.text("a\n\u{1b}[2J\u{202e}".as_bytes(), 100), r#""a\n\u{1b}[2J\u{202e}""#);
        assert_eq!(decoder.text(&[0xff, 0, 1], 2), "ff00 …");
        assert_eq!(decoder.text("aé".as_bytes(), 2), "\"a\" …");
        assert_eq!(decoder.json(b"text"), json!("text"));
        assert_eq!(decoder.json(&[0xff]), json!({ "hex": "ff" }));
    }
}
