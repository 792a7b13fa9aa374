//! Views can be serialized as JSON.
#![cfg(feature = "serde")]

use std::collections::BTreeMap;

use blockcast_flat_types::{Flat, FlatType, Index, Serialized};

#[derive(Flat)]
struct Order {
    id: u32,
    items: Vec<Item>,
    notes: Option<String>,
    totals: BTreeMap<String, f64>,
    mode: Mode,
    rights: Rights,
    outcome: Result<(), char>,
    size: (u8, bool),
}

#[derive(Flat)]
enum Item {
    Nothing,
    Book(String),
    Box(u8, u8),
    Tea { grams: u16 },
}

#[derive(Flat, Clone, Copy, Debug)]
enum Mode {
    Slow,
    Fast,
}

#[derive(Flat, Clone, Copy, Debug)]
#[flat(flags)]
struct Rights {
    read: bool,
    write: bool,
}

fn json<T: FlatType, I: Index>(bytes: &[u8]) -> serde_json::Value {
    let view = Flat::<T, I>::access(bytes).unwrap();
    serde_json::to_value(Serialized::<T, I>(view)).unwrap()
}

#[test]
fn a_view_serializes_like_its_rust_type() {
    let order = Order {
        id: 7,
        items: vec![Item::Nothing, Item::Book("Faust".into()), Item::Box(1, 2), Item::Tea { grams: 100 }],
        notes: None,
        totals: [("net".to_owned(), 1.5)].into(),
        mode: Mode::Fast,
        rights: Rights { read: true, write: false },
        outcome: Err('x'),
        size: (3, true),
    };
    let bytes = Flat::<Order, u16>::to_vec(&order).unwrap();
    let expected = serde_json::json!({
        "id": 7,
        "items": ["Nothing", {"Book": "Faust"}, {"Box": [1, 2]}, {"Tea": {"grams": 100}}],
        "notes": null,
        "totals": {"net": 1.5},
        "mode": "Fast",
        "rights": {"read": true, "write": false},
        "outcome": {"Err": "x"},
        "size": [3, true],
    });
    assert_eq!(json::<Order, u16>(&bytes), expected);
    let view = Flat::<Order, u16>::access(&bytes).unwrap();
    assert_eq!(serde_json::to_value(view).unwrap(), expected, "the view serializes by itself");
    assert!(matches!(order.mode, Mode::Fast) && !matches!(order.mode, Mode::Slow));
}
