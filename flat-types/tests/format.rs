//! The vectors of FORMAT.md, which `check_vectors.py` checks with an independent implementation.
//!
//! `FLAT_VECTORS=write cargo test -p blockcast-flat-types --test format` rewrites the file.

use std::collections::BTreeMap;
use std::path::Path;

use blockcast_flat_types::{Flat, FlatType, Index, ToFlat};
use serde_json::{Value, json};

#[derive(Flat, Clone, Copy, Debug)]
#[flat(flags)]
struct Three {
    a: bool,
    b: bool,
    c: bool,
}

#[derive(Flat, Clone, Copy, Debug)]
#[flat(flags)]
#[rustfmt::skip]
struct Nine { a: bool, b: bool, c: bool, d: bool, e: bool, f: bool, g: bool, h: bool, i: bool }

#[derive(Flat, Clone, Copy, Debug)]
enum Color {
    Red,
    Green,
    Blue,
}

#[derive(Flat, Debug)]
enum Shape {
    Nothing,
    Circle(f64),
    Named { name: String, corners: Vec<u16> },
}

#[derive(Flat, Debug)]
struct Record {
    id: u16,
    name: String,
    marks: Vec<f32>,
}

#[derive(Default)]
struct Vectors {
    valid: Vec<Value>,
    invalid: Vec<Value>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn structure<T: FlatType, I: Index>() -> String {
    T::TYPE.structure(I::WIDTH).split_once(':').expect("a prefix").1.to_owned()
}

impl Vectors {
    /// Adds the canonical message of a value at every width into which it fits.
    fn value<T: FlatType>(&mut self, value: impl ToFlat<T>, json: &Value) {
        self.at::<T, u8>(&value, json);
        self.at::<T, u16>(&value, json);
        self.at::<T, u32>(&value, json);
    }

    fn at<T: FlatType, I: Index>(&mut self, value: impl ToFlat<T>, json: &Value) {
        if let Ok(bytes) = Flat::<T, I>::to_vec(&value) {
            self.message::<T, I>(&bytes, &value, json, true);
        }
    }

    fn message<T: FlatType, I: Index>(
        &mut self,
        bytes: &[u8],
        value: impl ToFlat<T>,
        json: &Value,
        canonical: bool,
    ) {
        let view = Flat::<T, I>::access(bytes).expect("a vector is valid");
        assert!(value.matches::<I>(view), "{json} reads as {view:?}");
        self.valid.push(json!({
            "type": structure::<T, I>(),
            "index": I::WIDTH.name(),
            "value": json,
            "hex": hex(bytes),
            "canonical": canonical,
            "fingerprint": format!("{:016x}", Flat::<T, I>::FINGERPRINT),
        }));
    }

    fn invalid<T: FlatType, I: Index>(&mut self, bytes: &[u8], why: &str) {
        Flat::<T, I>::validate(bytes).expect_err(why);
        self.invalid.push(json!({
            "type": structure::<T, I>(),
            "index": I::WIDTH.name(),
            "hex": hex(bytes),
            "why": why,
        }));
    }
}

fn valid(vectors: &mut Vectors) {
    vectors.value::<Vec<String>>(["hello", "one"], &json!(["hello", "one"]));
    vectors.value::<Vec<String>>([""; 0], &json!([]));
    vectors.value::<Vec<String>>(["", "ä€𝄞", ""], &json!(["", "ä€𝄞", ""]));
    vectors.value::<String>("", &json!(""));
    vectors.value::<String>("zero\0inside", &json!("zero\0inside"));
    vectors.value::<String>("x".repeat(200).as_str(), &json!("x".repeat(200)));
    vectors.value::<String>("x".repeat(300).as_str(), &json!("x".repeat(300)));

    vectors.value::<bool>(true, &json!(true));
    vectors.value::<u8>(255, &json!(255));
    vectors.value::<i8>(-1, &json!(-1));
    vectors.value::<u16>(0x0102, &json!(0x0102));
    vectors.value::<i16>(i16::MIN, &json!(i16::MIN));
    vectors.value::<u32>(0x0102_0304, &json!(0x0102_0304));
    vectors.value::<i32>(-2, &json!(-2));
    vectors.value::<u64>(u64::MAX, &json!(u64::MAX));
    vectors.value::<i64>(i64::MIN, &json!(i64::MIN));
    vectors.value::<f32>(1.5, &json!(1.5));
    vectors.value::<f64>(-0.1, &json!(-0.1));
    vectors.value::<f64>(f64::INFINITY, &json!("inf"));
    vectors.value::<char>('𝄞', &json!("𝄞"));

    vectors.value::<Vec<f32>>([1.0, -2.5].as_slice(), &json!([1.0, -2.5]));
    vectors.value::<Vec<f64>>([0.0_f64; 0].as_slice(), &json!([]));
    vectors.value::<Vec<bool>>([true, false, true], &json!([true, false, true]));
    vectors.value::<(String, Vec<u64>)>(("a", [1, 2]), &json!(["a", [1, 2]]));
    vectors.value::<(u8, u32, u8)>((1, 2, 3), &json!([1, 2, 3]));
    vectors.value::<Vec<(u8, u16)>>([(1, 2), (3, 4)], &json!([[1, 2], [3, 4]]));
    vectors.value::<Vec<Vec<String>>>([vec!["a", "bc"], vec![], vec!["d"]], &json!([["a", "bc"], [], ["d"]]));
    vectors.value::<Vec<(String, Vec<u16>, bool)>>(
        [("one", vec![1, 2], true), ("", vec![], false), ("three", vec![3], true)],
        &json!([["one", [1, 2], true], ["", [], false], ["three", [3], true]]),
    );
    let record = Record { id: 7, name: "ab".into(), marks: vec![1.0, 2.0] };
    vectors.value::<Record>(&record, &json!([7, "ab", [1.0, 2.0]]));
    assert_eq!((record.id, record.name.len(), record.marks.len()), (7, 2, 2));

    vectors.value::<Option<u32>>(None::<u32>, &json!([0]));
    vectors.value::<Option<u32>>(Some(9), &json!([1, 9]));
    vectors.value::<Vec<Option<String>>>([Some("x"), None], &json!([[1, "x"], [0]]));
    vectors.value::<Option<Option<u8>>>(Some(None::<u8>), &json!([1, [0]]));
    vectors.value::<Result<u8, String>>(Ok::<_, &str>(3), &json!([0, 3]));
    vectors.value::<Result<u8, String>>(Err::<u8, _>("no"), &json!([1, "no"]));
    vectors.value::<Result<(), char>>(Ok::<_, char>(()), &json!([0]));
    vectors.value::<Vec<Color>>([Color::Red, Color::Green, Color::Blue], &json!([[0], [1], [2]]));
    vectors.value::<Vec<Shape>>(
        [Shape::Nothing, Shape::Circle(0.5), Shape::Named { name: "L".into(), corners: vec![6] }],
        &json!([[0], [1, 0.5], [2, ["L", [6]]]]),
    );
    vectors.value::<Three>(Three { a: true, b: false, c: true }, &json!(0b101));
    let nine =
        Nine { a: true, b: false, c: false, d: false, e: false, f: false, g: false, h: false, i: true };
    vectors.value::<(u8, Nine)>((1, nine), &json!([1, 0x101]));

    vectors.value::<BTreeMap<String, u32>>(
        &BTreeMap::from([("b", 2), ("a", 1), ("ä", 3)]),
        &json!([["a", 1], ["b", 2], ["ä", 3]]),
    );
    vectors.value::<BTreeMap<i8, Vec<String>>>(
        &BTreeMap::from([(1, vec!["x"]), (-1, vec!["y", "z"])]),
        &json!([[-1, ["y", "z"]], [1, ["x"]]]),
    );

    // A list with room for three elements, of which two are used, and a string that starts later than
    // necessary.
    vectors.message::<Vec<String>, u8>(
        b"\x02\x02\x06\x01\x05\x01\0\0ab",
        ["a", "b"],
        &json!(["a", "b"]),
        false,
    );
    vectors.message::<String, u16>(b"\x06\0\x01\0\0\0x", "x", &json!("x"), false);
}

fn invalid(vectors: &mut Vectors) {
    vectors.invalid::<Vec<String>, u8>(b"", "the header is missing");
    vectors.invalid::<Vec<String>, u8>(b"\x02", "the header is cut off");
    vectors.invalid::<Vec<String>, u8>(b"\x02\x01", "the element's header is missing");
    vectors.invalid::<String, u8>(b"\x02\x02x", "the text is cut off");
    vectors.invalid::<String, u8>(b"\x03\x00", "an empty string points past the end");
    vectors.invalid::<String, u32>(b"\x08\0\0\0\xff\xff\xff\xff", "the length is too large");
    vectors.invalid::<String, u32>(b"\xff\xff\xff\xff\0\0\0\0", "the delta is too large");
    vectors.invalid::<Vec<u64>, u32>(b"\x08\0\0\0\xff\xff\xff\xff", "the count is too large");
    vectors.invalid::<String, u8>(b"\x02\x00x", "a byte follows the value");
    vectors.invalid::<Vec<String>, u8>(b"\x00\x01", "the list points to itself");
    vectors.invalid::<Vec<String>, u8>(b"\x02\x01\x00\x02", "the string points to its own header");
    vectors.invalid::<Vec<String>, u8>(b"\x02\x02\x04\x01\x02\x01x", "two strings share their text");
    vectors.invalid::<Vec<String>, u8>(b"\x02\x02\x05\x01\x02\x01yx", "regions are not in order");
    vectors.invalid::<String, u8>(b"\x02\x01\xff", "not UTF-8");
    vectors.invalid::<Vec<String>, u8>(b"\x02\x02\x04\x01\x03\x01\xc3\xa4", "a character is cut in two");
    vectors.invalid::<String, u8>(b"\x03\x01!x", "a gap is not zero");
    vectors.invalid::<(u8, u16), u32>(b"\x01\x01\x02\x00", "padding is not zero");
    vectors.invalid::<(u16, u8), u32>(b"\x01\x00\x02\x01", "padding at the end is not zero");
    vectors.invalid::<Vec<u16>, u32>(b"\x09\0\0\0\x01\0\0\0\0\x01\x01", "the list is not aligned");
    vectors.invalid::<bool, u8>(b"\x02", "not a bool");
    vectors.invalid::<Vec<bool>, u8>(b"\x02\x03\x01\x02\x00", "not a bool");
    vectors.invalid::<char, u8>(b"\x00\xd8\x00\x00", "a surrogate is not a char");
    vectors.invalid::<char, u8>(b"\x00\x00\x11\x00", "the number exceeds the last char");
    vectors.invalid::<Option<u8>, u8>(b"\x02\x00", "there is no case 2");
    vectors.invalid::<Option<u8>, u8>(b"\x00\x01", "case 0 has no payload");
    vectors.invalid::<Option<u32>, u32>(b"\x01\0\x01\0\x05\0\0\0", "bytes between discriminant and payload");
    vectors.invalid::<Result<u8, u16>, u8>(b"\x00\x01\x01", "bytes after the payload");
    vectors.invalid::<Color, u8>(b"\x03", "there is no case 3");
    vectors.invalid::<Three, u8>(b"\x08", "there is no flag 3");
    vectors.invalid::<BTreeMap<u8, u8>, u8>(b"\x02\x02\x01\x00\x01\x00", "a key occurs twice");
    vectors.invalid::<BTreeMap<u8, u8>, u8>(b"\x02\x02\x02\x00\x01\x00", "keys descend");
    vectors.invalid::<BTreeMap<String, ()>, u8>(b"\x02\x02\x04\x01\x03\x01ba", "keys descend");
}

#[test]
fn the_published_vectors_are_up_to_date() {
    let mut vectors = Vectors::default();
    valid(&mut vectors);
    invalid(&mut vectors);
    let lines = |list: &[Value]| {
        let lines: Vec<_> = list.iter().map(|vector| format!("    {vector}")).collect();
        lines.join(",\n")
    };
    let text = format!(
        "{{\n  \"format\": \"flat1\",\n  \"valid\": [\n{}\n  ],\n  \"invalid\": [\n{}\n  ]\n}}\n",
        lines(&vectors.valid),
        lines(&vectors.invalid)
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors.json");
    if std::env::var_os("FLAT_VECTORS").is_some_and(|mode| mode == "write") {
        std::fs::write(&path, &text).expect("the file can be written");
    }
    let published = std::fs::read_to_string(&path).expect("the vectors can be read");
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("the vectors are JSON");
    assert!(parse(&published) == parse(&text), "the vectors differ from {}", path.display());
}

#[test]
fn the_vectors_can_be_read_with_only_their_schema_text() {
    use blockcast_flat_types::dynamic::Schema;
    let vectors: Value = serde_json::from_str(include_str!("../vectors.json")).expect("the vectors are JSON");
    let list = |name: &str| vectors[name].as_array().expect("a list").clone();
    let text = |vector: &Value, name: &str| vector[name].as_str().expect("a text").to_owned();
    let bytes = |vector: &Value| -> Vec<u8> {
        let hex = text(vector, "hex");
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    let schema = |vector: &Value| {
        let schema = format!("flat1/{}:{}", text(vector, "index"), text(vector, "type"));
        Schema::parse(&schema).expect("the schema of a vector")
    };
    for vector in list("valid") {
        let (schema, bytes) = (schema(&vector), bytes(&vector));
        assert_eq!(format!("{:016x}", schema.fingerprint()), text(&vector, "fingerprint"));
        let value = schema.access(&bytes).unwrap_or_else(|error| panic!("{vector}: {error}"));
        assert!(!format!("{value:?}").is_empty());
        #[cfg(feature = "serde")]
        assert_eq!(serde_json::to_value(value).unwrap(), vector["value"], "{schema}");
    }
    for vector in list("invalid") {
        assert!(schema(&vector).validate(&bytes(&vector)).is_err(), "{vector}");
    }
}

#[test]
fn the_example_in_format_md_is_correct() {
    let record = Record { id: 7, name: "ab".into(), marks: vec![1.0, 2.0] };
    let bytes = Flat::<Record>::to_vec(&record).unwrap();
    let page = include_str!("../FORMAT.md");
    let lines = page.split("```text").last().unwrap().lines().filter(|line| line.len() > 16);
    let listed: Vec<_> = lines
        .flat_map(|line| line[4..16].split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    assert_eq!(bytes, listed);
}
