//! Text is UTF-8, piece by piece.

use blockcast_flat_types::{Flat, FlatError};

type Strings = Flat<Vec<String>, u8>;

/// A list of strings whose text is `text`, cut after so many bytes each.
fn cut(text: &[u8], lengths: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, lengths.len() as u8];
    let mut start = 2 + 2 * lengths.len() as u8;
    for length in lengths {
        bytes.extend([start - bytes.len() as u8, *length]);
        start += length;
    }
    bytes.extend(text);
    bytes
}

#[test]
fn text_that_is_utf8_as_a_whole_may_not_be_cut_within_a_character() {
    let text = "aäb€c".as_bytes();
    for at in 0..=text.len() {
        let bytes = cut(text, &[at as u8, (text.len() - at) as u8]);
        let result = Strings::validate(&bytes);
        match std::str::from_utf8(&text[..at]) {
            Ok(_) => assert_eq!(result, Ok(()), "cut at {at}"),
            Err(error) => {
                assert_eq!(result, Err(FlatError::Utf8 { at: 6 + error.valid_up_to() }), "cut at {at}")
            }
        }
    }
}

#[test]
fn every_string_of_a_list_is_checked() {
    let good = cut("ääää".as_bytes(), &[2, 0, 4, 0, 2]);
    assert_eq!(Strings::access(&good).unwrap(), ["ä", "", "ää", "", "ä"]);
    for wrong in 12..good.len() {
        let mut bytes = good.clone();
        bytes[wrong] = 0xff;
        assert!(matches!(Strings::validate(&bytes), Err(FlatError::Utf8 { .. })), "at {wrong}");
    }
}

#[test]
fn surrogates_and_overlong_forms_are_refused() {
    for text in [&b"\xed\xa0\x80"[..], b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        assert!(Strings::validate(&cut(text, &[text.len() as u8])).is_err());
        assert!(Flat::<String, u8>::validate(&[&[2, text.len() as u8], text].concat()).is_err());
    }
}
