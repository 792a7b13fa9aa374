//! Every string of a message is UTF-8.

use std::collections::BTreeMap;

use blockcast_flat_types::{BuildError, Flat, FlatError};

type Strings = Flat<Vec<String>, u8>;

/// A message with a list of strings: `text`, cut into pieces of the given lengths in bytes.
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
fn a_cut_within_a_character_is_an_error() {
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
fn every_byte_of_a_list_of_strings_is_checked() {
    let good = cut("ääää".as_bytes(), &[2, 0, 4, 0, 2]);
    assert_eq!(Strings::access(&good).unwrap(), ["ä", "", "ää", "", "ä"]);
    for wrong in 12..good.len() {
        let mut bytes = good.clone();
        bytes[wrong] = 0xff;
        assert!(matches!(Strings::validate(&bytes), Err(FlatError::Utf8 { .. })), "at {wrong}");
    }
}

#[test]
fn surrogates_and_overlong_forms_are_errors() {
    for text in [&b"\xed\xa0\x80"[..], b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        assert!(Strings::validate(&cut(text, &[text.len() as u8])).is_err());
        assert!(Flat::<String, u8>::validate(&[&[2, text.len() as u8], text].concat()).is_err());
    }
}

/// Texts of every length from 0 to `longest` bytes. Adjacent bytes differ.
fn texts(longest: usize) -> Vec<String> {
    let alphabet = "abcdefghijklmnopqrstuvwxyz".chars().cycle();
    (0..=longest).map(|len| alphabet.clone().skip(len % 7).take(len).collect()).collect()
}

#[test]
fn texts_of_every_length_are_written_and_nothing_after_them() {
    let texts = texts(100);
    let mut block = vec![0xaa; 8 + 101 * 8 + 100 * 101 / 2 + 64];
    let length = Flat::<Vec<String>>::write(&texts, &mut block).unwrap();
    assert_eq!(length, block.len() - 64);
    assert_eq!(Flat::<Vec<String>>::access(&block[..length]).unwrap(), texts);
    assert!(block[length..].iter().all(|byte| *byte == 0xaa));
    // The result is the same element by element, by reference, and as keys of a map.
    let pushed = Flat::<Vec<String>>::build(&mut vec![0; length], |list| {
        let mut list = list.with_len(texts.len())?;
        for text in &texts {
            list.push(text)?;
        }
        list.finish()
    });
    assert_eq!(pushed, Ok::<_, BuildError>(length));
    let references: Vec<&String> = texts.iter().collect();
    assert_eq!(Flat::<Vec<String>>::to_vec(&references).unwrap(), block[..length]);
    let map: BTreeMap<&str, u8> = texts.iter().map(|text| (text.as_str(), text.len() as u8)).collect();
    let bytes = Flat::<BTreeMap<String, u8>>::to_vec(&map).unwrap();
    assert_eq!(Flat::<BTreeMap<String, u8>>::access(&bytes).unwrap(), map);
}

#[test]
fn texts_that_do_not_fit_are_an_error_at_every_length() {
    let texts = texts(40);
    let length = Flat::<Vec<String>>::encoded_len(&texts);
    let mut block = vec![0; length];
    for room in 0..length {
        let error = Flat::<Vec<String>>::write(&texts, &mut block[..room]).unwrap_err();
        assert!(
            matches!(error, BuildError::NoRoom { needed, available } if needed > room && available == room)
        );
    }
    let error = Flat::<Vec<String>, u8>::write(&texts, &mut block).unwrap_err();
    assert!(matches!(error, BuildError::IndexOverflow { max: 255, .. }), "{error}");
}
