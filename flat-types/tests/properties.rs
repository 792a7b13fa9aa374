//! Properties of every type, every value and every index width, and of arbitrary bytes.

use std::collections::BTreeMap;
use std::fmt::Debug;

use blockcast_flat_types::{BuildError, Flat, FlatType, Index, dynamic};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

#[derive(Flat, Debug, Clone, PartialEq)]
struct Everything {
    flag: bool,
    small: (u8, i16),
    text: String,
    large: u64,
    texts: Vec<String>,
    numbers: Vec<f64>,
    maybe: Option<Vec<char>>,
    outcome: Result<(), String>,
    map: BTreeMap<String, Vec<u16>>,
    shapes: Vec<Shape>,
    rights: Rights,
}

#[derive(Flat, Debug, Clone, PartialEq)]
enum Shape {
    Nothing,
    Circle(f32),
    Named { name: String, corners: Vec<u32> },
}

#[derive(Flat, Debug, Clone, Copy, PartialEq)]
#[flat(flags)]
struct Rights {
    read: bool,
    write: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Nothing),
        any::<f32>().prop_map(Shape::Circle),
        (short_text(), small::<u32>()).prop_map(|(name, corners)| Shape::Named { name, corners }),
    ]
}

fn short_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..6).prop_map(|characters| characters.into_iter().collect())
}

fn small<T: Arbitrary>() -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(any::<T>(), 0..5)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(short_text(), 0..5)
}

fn everything() -> impl Strategy<Value = Everything> {
    let scalars = (any::<bool>(), any::<(u8, i16)>(), any::<u64>(), any::<(bool, bool)>());
    let lists = (short_text(), texts(), small::<f64>(), proptest::option::of(small::<char>()));
    let outcome = prop_oneof![Just(Ok(())), short_text().prop_map(Err)];
    let map = proptest::collection::btree_map(short_text(), small::<u16>(), 0..5);
    let shapes = proptest::collection::vec(shape(), 0..5);
    (scalars, lists, outcome, map, shapes).prop_map(
        |((flag, small, large, (read, write)), (text, texts, numbers, maybe), outcome, map, shapes)| {
            Everything {
                flag,
                small,
                text,
                large,
                texts,
                numbers,
                maybe,
                outcome,
                map,
                shapes,
                rights: Rights { read, write },
            }
        },
    )
}

/// A value is written in exactly `encoded_len` bytes, and is read as it was written.
fn round_trip<T: FlatType + PartialEq + Debug, I: Index>(value: &T) -> TestCaseResult {
    let length = Flat::<T, I>::encoded_len(value);
    let mut block = vec![0xaa; length + 16];
    let written = match Flat::<T, I>::write(value, &mut block) {
        Err(BuildError::IndexOverflow { max, .. }) => {
            prop_assert!(max < u32::MAX as usize, "nothing here is too large for u32");
            return Ok(());
        }
        other => other.expect("only the index can be too narrow"),
    };
    prop_assert_eq!(written, length);
    prop_assert!(block[length..].iter().all(|byte| *byte == 0xaa), "nothing is written past the message");
    let bytes = &block[..length];
    let view = Flat::<T, I>::access(bytes).expect("a written message is valid");
    prop_assert!(value.matches::<I>(view));
    prop_assert_eq!(format!("{:?}", &T::from_view::<I>(view)), format!("{:?}", value));
    prop_assert_eq!(&T::from_view::<I>(view), value);

    // A shorter block is too small, and a shorter or longer message is invalid.
    for short in (0..length).rev().take(40) {
        let result = Flat::<T, I>::write(value, &mut block[..short]);
        let is_no_room = matches!(result, Err(BuildError::NoRoom { needed, available })
            if available == short && needed > short && needed <= length);
        prop_assert!(is_no_room, "{:?}", result);
    }
    let mut bytes = Flat::<T, I>::to_vec(value).expect("it was written before");
    for short in 0..bytes.len() {
        prop_assert!(Flat::<T, I>::validate(&bytes[..short]).is_err(), "cut at {}", short);
    }
    bytes.push(0);
    prop_assert!(Flat::<T, I>::validate(&bytes).is_err());
    Ok(())
}

/// Bytes are invalid, or all of them can be read and written again.
fn is_valid_or_an_error<T: FlatType + Debug, I: Index>(bytes: &[u8]) -> TestCaseResult {
    // A reader that knows only the schema's text comes to the same result.
    let schema = dynamic::Schema::parse(&Flat::<T, I>::schema()).expect("the schema of a type");
    prop_assert_eq!(schema.validate(bytes).is_ok(), Flat::<T, I>::validate(bytes).is_ok());
    if let Ok(view) = Flat::<T, I>::access(bytes) {
        let printed = format!("{view:?}");
        let value = T::from_view::<I>(view);
        let again = Flat::<T, I>::to_vec(&value).expect("the value fits");
        prop_assert!(again.len() <= bytes.len(), "the canonical message is the shortest");
        let view = Flat::<T, I>::access(&again).expect("a written message is valid");
        let printed_again = format!("{view:?}");
        // Compare the texts instead of the values, which can contain a NaN.
        prop_assert_eq!(printed, printed_again);
    }
    Ok(())
}

/// A message with changed bytes is invalid, or all of it can be read and written again.
fn survives_mutation<T: FlatType + Debug, I: Index>(value: &T, changes: &[(u16, u8)]) -> TestCaseResult {
    let Ok(mut bytes) = Flat::<T, I>::to_vec(value) else { return Ok(()) };
    for (position, change) in changes {
        let position = *position as usize % bytes.len();
        bytes[position] ^= change;
        is_valid_or_an_error::<T, I>(&bytes)?;
    }
    Ok(())
}

macro_rules! properties {
    ($($name:ident: $type:ty = $strategy:expr;)+) => { $(
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

                #[test]
                fn a_value_is_read_as_it_was_written(value in $strategy) {
                    round_trip::<$type, u8>(&value)?;
                    round_trip::<$type, u16>(&value)?;
                    round_trip::<$type, u32>(&value)?;
                }

                #[test]
                fn a_mutation_is_an_error_or_another_value(
                    value in $strategy,
                    changes in proptest::collection::vec((any::<u16>(), 1_u8..), 1..8),
                ) {
                    survives_mutation::<$type, u8>(&value, &changes)?;
                    survives_mutation::<$type, u16>(&value, &changes)?;
                    survives_mutation::<$type, u32>(&value, &changes)?;
                }

                #[test]
                fn any_bytes_are_an_error_or_a_value(bytes in proptest::collection::vec(0_u8..16, 0..48)) {
                    is_valid_or_an_error::<$type, u8>(&bytes)?;
                    is_valid_or_an_error::<$type, u16>(&bytes)?;
                    is_valid_or_an_error::<$type, u32>(&bytes)?;
                }
            }
        }
    )+ };
}

properties! {
    bool_: bool = any::<bool>();
    u8_: u8 = any::<u8>();
    u16_: u16 = any::<u16>();
    u32_: u32 = any::<u32>();
    u64_: u64 = any::<u64>();
    s8: i8 = any::<i8>();
    s16: i16 = any::<i16>();
    s32: i32 = any::<i32>();
    s64: i64 = any::<i64>();
    f32_: f32 = any::<f32>();
    f64_: f64 = any::<f64>();
    char_: char = any::<char>();
    string: String = short_text();
    list_of_bool: Vec<bool> = small::<bool>();
    list_of_u8: Vec<u8> = small::<u8>();
    list_of_f64: Vec<f64> = small::<f64>();
    list_of_char: Vec<char> = small::<char>();
    list_of_string: Vec<String> = texts();
    list_of_list: Vec<Vec<u32>> = proptest::collection::vec(small::<u32>(), 0..4);
    tuple: (u8, String, u32) = (any::<u8>(), short_text(), any::<u32>());
    list_of_tuple: Vec<(u16, Vec<u8>)> = proptest::collection::vec((any::<u16>(), small::<u8>()), 0..4);
    option: Option<String> = proptest::option::of(short_text());
    result: Result<u64, String> = prop_oneof![any::<u64>().prop_map(Ok), short_text().prop_map(Err)];
    map: BTreeMap<String, u32> = proptest::collection::btree_map(short_text(), any::<u32>(), 0..6);
    map_of_numbers: BTreeMap<(i8, bool), f32> = proptest::collection::btree_map(any::<(i8, bool)>(), any::<f32>(), 0..6);
    variant: Vec<Shape> = proptest::collection::vec(shape(), 0..4);
    everything_: Everything = everything();
}

proptest! {
    #[test]
    fn a_list_with_unused_room_reads_as_its_elements(texts in texts(), spare in 0_usize..5) {
        let mut block = [0xaa; 512];
        let length = Flat::<Vec<String>>::build(&mut block, |list| {
            let mut list = list.with_capacity(texts.len() + spare)?;
            for text in &texts {
                list.push(text)?;
            }
            list.finish()
        }).expect("the block is large enough");
        prop_assert_eq!(&Flat::<Vec<String>>::access(&block[..length]).expect("valid"), &texts);
    }

    #[test]
    fn a_map_finds_exactly_the_keys_it_contains(
        map in proptest::collection::btree_map(short_text(), any::<u8>(), 0..20),
        others in texts(),
    ) {
        let bytes = Flat::<BTreeMap<String, u8>>::to_vec(&map).expect("fits");
        let view = Flat::<BTreeMap<String, u8>>::access(&bytes).expect("valid");
        for key in map.keys().chain(&others) {
            prop_assert_eq!(view.get(key), map.get(key).copied());
        }
    }
}
