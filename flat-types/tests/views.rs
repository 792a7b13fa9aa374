//! Views of one message can be written into another.

use std::collections::BTreeMap;

use blockcast_flat_types::{BuildError, Flat};

type Lines = Flat<Vec<String>>;

#[test]
fn a_view_is_written_into_another_message_at_any_width() {
    type Value = (Vec<(u8, String)>, BTreeMap<String, Vec<u16>>, Option<Vec<bool>>, Result<i64, String>);
    let map = BTreeMap::from([("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![])]);
    let value: Value = (vec![(1, "one".to_owned()), (2, "two".to_owned())], map, Some(vec![true]), Ok(-5));
    let wide = Flat::<Value>::to_vec(&value).unwrap();
    let view = Flat::<Value>::access(&wide).unwrap();
    assert_eq!(Flat::<Value>::to_vec(view).unwrap(), wide);
    let narrow = Flat::<Value, u8>::to_vec(view).unwrap();
    assert_eq!(narrow, Flat::<Value, u8>::to_vec(&value).unwrap());
    assert_eq!(Flat::<Value, u8>::encoded_len(view), narrow.len());
    assert_eq!(Flat::<Value>::to_vec(Flat::<Value, u8>::access(&narrow).unwrap()).unwrap(), wide);
}

#[test]
fn a_range_of_a_list_can_be_written_as_a_list() {
    let all = Lines::to_vec(["to", "be", "or", "not"]).unwrap();
    let part = Lines::access(&all).unwrap().range(1..3).unwrap();
    let mut block = [0; 64];
    let length = Lines::write(part, &mut block).unwrap();
    assert_eq!(block[..length], Lines::to_vec(["be", "or"]).unwrap());
    let nested = Flat::<Vec<Vec<String>>>::build::<BuildError>(&mut block, |lists| {
        let mut lists = lists.with_len(2)?;
        lists.push(part)?;
        lists.push(["not"])?;
        lists.finish()
    });
    let view = Flat::<Vec<Vec<String>>>::access(&block[..nested.unwrap()]).unwrap();
    assert_eq!(view, [&["be", "or"][..], &["not"]]);
}

#[derive(Flat, Debug, PartialEq)]
struct Report<T> {
    words: u64,
    longest: Option<String>,
    lines: Vec<Line>,
    extra: T,
}

#[derive(Flat, Debug, PartialEq)]
enum Line {
    Empty,
    Plain(String),
    Pair(u8, String),
    Text { text: String, words: Vec<u32> },
}

#[derive(Flat, Debug, PartialEq)]
struct Meters(u32);

/// A record that contains a newtype, whose view belongs to another type.
#[derive(Flat, Debug, PartialEq)]
struct Walk {
    distance: Meters,
}

#[test]
fn derived_views_are_written_into_another_message() {
    let lines = vec![
        Line::Empty,
        Line::Plain("plain".into()),
        Line::Pair(7, "pair".into()),
        Line::Text { text: "text".into(), words: vec![1, 2] },
    ];
    let value = Report { words: 3, longest: Some("three".into()), lines, extra: vec![1.5_f32] };
    let bytes = Flat::<Report<Vec<f32>>>::to_vec(&value).unwrap();
    let view = Flat::<Report<Vec<f32>>>::access(&bytes).unwrap();
    assert_eq!(Flat::<Report<Vec<f32>>>::to_vec(view).unwrap(), bytes);
    let narrow = Flat::<Report<Vec<f32>>, u16>::to_vec(view).unwrap();
    assert_eq!(narrow, Flat::<Report<Vec<f32>>, u16>::to_vec(&value).unwrap());
    // One line is a message of its own, and the lines that are not empty are another.
    let last = view.lines().last().unwrap();
    assert_eq!(Flat::<Line>::read(&Flat::<Line>::to_vec(last).unwrap()).as_ref(), Ok(&value.lines[3]));
    let others = Flat::<Vec<Line>>::to_vec(view.lines().range(1..4).unwrap()).unwrap();
    assert_eq!(Flat::<Vec<Line>>::access(&others).unwrap(), value.lines[1..4]);
    let walk = Flat::<Walk>::to_vec(Walk { distance: Meters(5) }).unwrap();
    assert_eq!(Flat::<Walk>::access(&walk).unwrap().distance(), 5);
}
