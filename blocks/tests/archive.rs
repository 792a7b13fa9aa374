//! `#[archive]` makes a type a payload without `unsafe`, if all its parts are known to be safe.
#![cfg(feature = "rkyv")]
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use blockcast_blocks::{Payload, Rkyv, Schema, archive};

/// A nested type.
#[archive]
#[derive(Clone, Debug, PartialEq)]
#[rkyv(derive(Debug), compare(PartialEq))]
pub struct Place {
    /// Its name.
    pub name: String,
    at: (f64, f64),
}

#[archive]
struct Pair(pub Place, u8);

#[archive]
pub(crate) enum Event {
    /// It began.
    Started,
    Moved(Place, Vec<u32>),
    Stopped {
        after: u64,
        r#type: Option<char>,
    },
}

#[archive]
struct Everything {
    events: Vec<Event>,
    pairs: BTreeMap<String, Pair>,
    set: BTreeSet<u16>,
    deque: VecDeque<bool>,
    array: [i128; 3],
    boxed: Box<Result<u8, ()>>,
    slice: Box<[f32]>,
    text: Box<str>,
}

fn name<T>() -> String
where
    Rkyv<T>: Payload,
{
    let schema = <Rkyv<T> as Payload>::schema();
    assert_eq!(schema, Schema::named(schema.name().to_owned()), "the fingerprint is that of the name");
    schema.name().to_owned()
}

#[test]
fn a_schema_names_every_field_and_its_type_at_every_depth() {
    let place = "struct Place{name:string,at:tuple<f64,f64>}";
    assert_eq!(name::<Place>(), format!("rkyv:{place}:24"));
    let event = format!(
        "enum Event{{Started{{}},Moved{{0:{place},1:vec<u32>}},Stopped{{after:u64,r#type:option<char>}}}}"
    );
    assert_eq!(name::<Event>(), format!("rkyv:{event}:40"));
    let pair = format!("struct Pair{{0:{place},1:u8}}");
    let all = name::<Everything>();
    let expected = format!(
        "rkyv:struct Everything{{events:vec<{event}>,pairs:map<string,{pair}>,set:set<u16>,deque:vec<bool>,\
         array:array<i128,3>,boxed:box<result<u8,unit>>,slice:box-slice<f32>,text:box<str>}}:"
    );
    assert_eq!(all[..expected.len()], expected);
}

#[test]
fn standard_library_types_are_payloads_without_a_derive() {
    assert_eq!(name::<Vec<(String, Option<u32>)>>(), "rkyv:vec<tuple<string,option<u32>>>:8");
}

#[test]
fn types_that_differ_in_a_field_differ_in_their_schema() {
    mod other {
        #[blockcast_blocks::archive]
        pub struct Place {
            name: String,
            at: (f64, f32),
        }
    }
    mod swapped {
        #[blockcast_blocks::archive]
        pub struct Place {
            at: (f64, f64),
            name: String,
        }
    }
    assert_ne!(name::<Place>(), name::<other::Place>());
    assert_ne!(name::<Place>(), name::<swapped::Place>());
}

#[test]
fn names_that_the_program_shadows_do_not_affect_the_macro() {
    mod hostile {
        #![allow(unused, non_camel_case_types)]
        macro_rules! stringify {
            ($($any:tt)*) => {
                "the same for all"
            };
        }
        mod rkyv {}
        mod core {}
        mod std {}
        struct Option;
        struct String;
        struct Result;
        #[blockcast_blocks::archive]
        pub struct One {
            into: u8,
        }
        #[blockcast_blocks::archive]
        pub struct Two {
            clone: u8,
        }
    }
    assert_eq!(name::<hostile::One>(), "rkyv:struct One{into:u8}:1");
    assert_eq!(name::<hostile::Two>(), "rkyv:struct Two{clone:u8}:1");
}
