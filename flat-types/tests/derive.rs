//! Derived types: records, tuple structs, enums with and without payloads, flags, generics.

use std::collections::BTreeMap;

use blockcast_flat_types::{BuildError, Flat, FlatError, FlatType};

/// Statistics of a text.
#[derive(Flat, Debug, Clone, PartialEq)]
struct Report {
    /// The number of words.
    words: u64,
    longest: Option<String>,
    by_letter: BTreeMap<char, u32>,
    lines: Vec<Line>,
    state: State,
    rights: Rights,
    at: Position,
}

#[derive(Flat, Debug, Clone, PartialEq)]
enum Line {
    Empty,
    Text(String),
    Pair(u8, f64),
    Marked { text: String, marks: Vec<u16> },
}

#[derive(Flat, Debug, Clone, Copy, PartialEq)]
enum State {
    Running,
    Done,
}

#[derive(Flat, Debug, Clone, Copy, PartialEq, Default)]
#[flat(flags)]
struct Rights {
    read: bool,
    write: bool,
    run: bool,
}

#[derive(Flat, Debug, Clone, PartialEq)]
struct Position(f32, f32);

#[derive(Flat, Debug, Clone, PartialEq)]
struct Celsius(f32);

#[derive(Flat, Debug, Clone, PartialEq)]
struct Pair<A, B> {
    first: A,
    second: B,
}

fn report() -> Report {
    Report {
        words: 12,
        longest: Some("longest".into()),
        by_letter: [('a', 3), ('ä', 1)].into(),
        lines: vec![
            Line::Empty,
            Line::Text("to be".into()),
            Line::Pair(7, 0.5),
            Line::Marked { text: "or not".into(), marks: vec![1, 2] },
        ],
        state: State::Done,
        rights: Rights { read: true, run: true, ..Rights::default() },
        at: Position(1.0, -1.0),
    }
}

#[test]
fn a_record_is_read_as_it_was_written_at_every_width() {
    fn check<I: blockcast_flat_types::Index>() {
        let bytes = Flat::<Report, I>::to_vec(report()).unwrap();
        assert_eq!(Flat::<Report, I>::read(&bytes).unwrap(), report());
        let view = Flat::<Report, I>::access(&bytes).unwrap();
        assert_eq!(view, report());
        assert_eq!(Report::from(view), report());
        assert_eq!((view.words(), view.longest(), view.state()), (12, Some("longest"), State::Done));
        assert_eq!(view.by_letter().get('ä'), Some(1));
        assert_eq!(view.by_letter().get('b'), None);
        assert!(view.rights().run && !view.rights().write);
        assert_eq!(view.at(), (1.0, -1.0));
        match view.lines().get(3) {
            Some(LineView::Marked { text, marks }) => {
                assert_eq!((text, marks.get(1)), ("or not", Some(2)));
            }
            other => panic!("{other:?}"),
        }
    }
    check::<u8>();
    check::<u16>();
    check::<u32>();
}

#[test]
fn a_record_is_built_field_by_field() {
    let mut block = [0xaa; 512];
    let length = Flat::<Report>::build::<BuildError>(&mut block, |report| {
        report
            .words(12)?
            .longest(Some("longest"))?
            .by_letter_with(|map| {
                let mut map = map.with_len(2)?;
                map.insert('a', 3)?;
                map.insert('ä', 1)?;
                map.finish()
            })?
            .lines_with(|list| {
                let mut list = list.with_len(4)?;
                list.push_with(|line| line.empty())?;
                list.push_with(|line| line.text("to be"))?;
                list.push_with(|line| line.pair(7, 0.5))?;
                list.push_with(|line| {
                    line.marked_with(|tuple| {
                        tuple.put("or not")?.put_with(|marks| marks.items([1, 2]))?.finish()
                    })
                })?;
                list.finish()
            })?
            .state(State::Done)?
            .rights(Rights { read: true, write: false, run: true })?
            .at(Position(1.0, -1.0))?
            .finish()
    })
    .unwrap();
    assert_eq!(block[..length], Flat::<Report>::to_vec(report()).unwrap());
}

#[test]
fn a_view_prints_like_its_record() {
    let bytes = Flat::<Report>::to_vec(report()).unwrap();
    let view = format!("{:?}", Flat::<Report>::access(&bytes).unwrap());
    assert_eq!(view, format!("{:?}", report()).replace("Position(", "("));
}

#[test]
fn generics_are_laid_out_as_their_arguments() {
    type Nested = Pair<String, Pair<u8, Vec<u32>>>;
    let value = Pair { first: "x".to_owned(), second: Pair { first: 1, second: vec![2, 3] } };
    let bytes = Flat::<Nested>::to_vec(&value).unwrap();
    let view = Flat::<Nested>::access(&bytes).unwrap();
    assert_eq!(view.second().second().as_slice().unwrap(), [2, 3]);
    assert_eq!(view, value);
    assert_eq!(
        Nested::TYPE.fingerprint(blockcast_flat_types::Width::U8),
        <(String, (u8, Vec<u32>))>::TYPE.fingerprint(blockcast_flat_types::Width::U8)
    );
}

#[test]
fn a_newtype_has_the_layout_of_its_field() {
    assert_eq!(Flat::<Vec<Celsius>>::FINGERPRINT, Flat::<Vec<f32>>::FINGERPRINT);
    let bytes = Flat::<Vec<Celsius>>::to_vec([Celsius(21.5)]).unwrap();
    assert_eq!(Flat::<Vec<Celsius>>::access(&bytes).unwrap().get(0), Some(21.5));
    assert_eq!(Flat::<Vec<Celsius>>::read(&bytes).unwrap(), [Celsius(21.5)]);
}

#[test]
fn invalid_cases_flags_and_padding_are_errors() {
    assert_eq!(Flat::<State>::validate(&[2]), Err(FlatError::Discriminant { at: 0, value: 2 }));
    assert_eq!(Flat::<Rights>::validate(&[0b1000]), Err(FlatError::Discriminant { at: 0, value: 8 }));
    assert_eq!(Flat::<Option<u16>, u8>::validate(&[0, 1, 0]), Err(FlatError::Padding { at: 1 }));
    assert_eq!(
        Flat::<Option<u16>, u8>::validate(&[2, 1, 0]),
        Err(FlatError::Discriminant { at: 0, value: 2 })
    );
    assert_eq!(Flat::<Option<u16>>::validate(&[1, 1, 0, 0]), Err(FlatError::Padding { at: 1 }));
    assert_eq!(Flat::<Result<u8, u16>, u8>::validate(&[0, 1, 1]), Err(FlatError::Padding { at: 2 }));
    assert_eq!(Flat::<bool>::validate(&[2]), Err(FlatError::Discriminant { at: 0, value: 2 }));
    assert_eq!(Flat::<char>::validate(&[0, 0xd8, 0, 0]), Err(FlatError::Char { at: 0, value: 0xd800 }));
    let pair = Flat::<(u8, u16)>::validate(&[1, 1, 2, 0]);
    assert_eq!(pair, Err(FlatError::Padding { at: 1 }));
}

#[test]
fn map_keys_must_ascend() {
    type Map = Flat<BTreeMap<String, u8>, u8>;
    let map = BTreeMap::from([("b", 2), ("a", 1), ("", 0)]);
    let bytes = Map::to_vec(&map).unwrap();
    let view = Map::access(&bytes).unwrap();
    assert_eq!(view, map);
    assert_eq!(view.keys().collect::<Vec<_>>(), ["", "a", "b"]);
    assert_eq!(["", "a", "b", "c"].map(|key| view.get(key)), [Some(0), Some(1), Some(2), None]);
    assert_eq!(view.search("aa"), Err(2));

    let mut swapped = bytes.clone();
    let (a, b) = (bytes.len() - 2, bytes.len() - 1);
    swapped.swap(a, b);
    assert_eq!(Map::validate(&swapped), Err(FlatError::KeyOrder { at: 8 }));

    let mut block = [0; 64];
    let length = Map::build(&mut block, |map| {
        let mut map = map.with_capacity(4)?;
        map.insert("b", 1)?;
        assert_eq!(map.insert("b", 2), Err(BuildError::KeyOrder));
        assert_eq!(map.insert_with("a", |value| value.set(2)), Err(BuildError::KeyOrder));
        map.insert("c", 3)?;
        map.finish()
    })
    .unwrap();
    assert_eq!(Map::access(&block[..length]).unwrap(), BTreeMap::from([("b", 1), ("c", 3)]));
}

#[test]
fn wit_texts_have_names_and_definitions() {
    assert_eq!(Flat::<Vec<Position>, u16>::schema(), "flat1/u16:list<tuple<f32,f32>>");
    assert_eq!(<Vec<Report>>::TYPE.to_string(), "list<report>");
    assert_eq!(Flat::<Report>::wit(), include_str!("report.wit"));
}
