//! The published bytes of the proof of concept with which this layout is compatible.

use blockcast_flat_types::{Flat, FlatError};

type Strings = Flat<Vec<String>, u8>;

const HELLO_ONE: &[u8] = b"\x02\x02\x04\x05\x07\x03helloone";

#[test]
fn a_list_of_two_strings_has_the_published_bytes() {
    let mut block = [0xaa; 32];
    let length = Strings::write(["hello", "one"], &mut block).unwrap();
    assert_eq!(&block[..length], HELLO_ONE);
    assert_eq!(length, 14);
    assert_eq!(Strings::encoded_len(["hello", "one"]), 14);

    let length = Strings::build(&mut block, |list| {
        let mut list = list.with_len(2)?;
        list.push("hello")?;
        list.push("one")?;
        list.finish()
    })
    .unwrap();
    assert_eq!(&block[..length], HELLO_ONE);
}

#[test]
fn empty_strings_and_lists_have_the_published_bytes() {
    assert_eq!(Flat::<String, u8>::to_vec("").unwrap(), [2, 0]);
    assert_eq!(Strings::to_vec([""; 0]).unwrap(), [2, 0]);
    assert_eq!(Strings::to_vec(["", ""]).unwrap(), [2, 2, 4, 0, 2, 0]);
}

#[test]
fn the_published_bytes_are_read() {
    let list = Strings::access(HELLO_ONE).unwrap();
    assert_eq!(list, ["hello", "one"]);
    assert_eq!((list.get(0), list.get(1), list.get(2)), (Some("hello"), Some("one"), None));
    assert_eq!(list.iter().rev().collect::<Vec<_>>(), ["one", "hello"]);
    assert_eq!(list.to_vec(), ["hello", "one"]);
    assert_eq!(list.range(1..2).unwrap(), ["one"]);
    assert_eq!(list.range(2..2).unwrap(), [""; 0]);
    assert_eq!(list.range(1..3), None);
    assert_eq!(format!("{list:?}"), r#"["hello", "one"]"#);
}

#[test]
fn nested_lists_are_written_depth_first() {
    let value = [vec!["a", "bc"], vec![], vec!["d"]];
    let bytes = Flat::<Vec<Vec<String>>, u8>::to_vec(&value).unwrap();
    // The root, three list headers, the first list's headers and text, and the third list's.
    assert_eq!(bytes, b"\x02\x03\x06\x02\x0b\x00\x09\x01\x04\x01\x03\x02abc\x02\x01d");
    assert_eq!(Flat::<Vec<Vec<String>>, u8>::access(&bytes).unwrap(), value);
}

#[test]
fn the_fields_of_a_record_are_adjacent() {
    let value = (7_u32, "seven", true);
    let bytes = Flat::<(u32, String, bool), u8>::to_vec(value).unwrap();
    assert_eq!(bytes, b"\x07\0\0\0\x03\x05\x01seven");
    let aligned = Flat::<(u8, String), u32>::to_vec((1_u8, "x")).unwrap();
    assert_eq!(aligned, b"\x01\0\0\0\x08\0\0\0\x01\0\0\0x");
    assert_eq!(Flat::<(u8, String), u32>::access(&aligned), Ok((1, "x")));
}

#[test]
fn a_string_that_is_too_long_for_the_index_is_an_error() {
    let long = "x".repeat(256);
    let error = Flat::<String, u8>::to_vec(&long).unwrap_err();
    assert_eq!(error.to_string(), "256 does not fit into an index, whose largest value is 255");
    assert!(Flat::<String, u16>::to_vec(&long).is_ok());
    assert!(Flat::<Vec<u8>, u8>::to_vec([0_u8; 256].as_slice()).is_err());
}

#[test]
fn invalid_bytes_are_an_error_with_its_offset() {
    let error = |bytes: &[u8]| Strings::validate(bytes).unwrap_err();
    assert_eq!(error(b""), FlatError::OutOfBounds { at: 0, missing: 2 });
    assert_eq!(error(b"\x02"), FlatError::OutOfBounds { at: 0, missing: 1 });
    assert_eq!(error(b"\x02\x01"), FlatError::OutOfBounds { at: 0, missing: 2 });
    assert_eq!(error(b"\x02\x00\x00"), FlatError::TrailingBytes { at: 2 });
    assert_eq!(error(b"\x00\x01"), FlatError::Overlap { at: 0 }, "a cycle");
    assert_eq!(error(b"\x02\x02\x04\x01\x02\x01x"), FlatError::Overlap { at: 4 }, "shared data");
    assert_eq!(error(b"\x02\x01\x02\x01\xff"), FlatError::Utf8 { at: 4 });
    assert_eq!(error(b"\x02\x01\x03\x01!x"), FlatError::Padding { at: 4 });
    assert_eq!(error(b"\x02\x02\x04\x01\x03\x01\xc3\xa4"), FlatError::Utf8 { at: 6 }, "a split character");
}
