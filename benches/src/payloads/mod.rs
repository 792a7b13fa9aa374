//! Payloads: the same values built and read in Blockcast's layouts and in those of others.
//!
//! Who can builds straight into a block, or into a buffer of its own that could be sent as it is; memory is used anew
//! for every message, so that nobody allocates it while the clock runs.

mod archive;
mod block;
mod capnp;
mod flat;
mod flatbuffers;
mod serde;
pub mod values;

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use self::archive::Archives;
pub use self::block::Block;
use self::capnp::Messages;
use self::flat::InPlace;
use self::flatbuffers::Buffers;
use self::serde::{Bincode, Decoded, Encoded, Json, Postcard};
use self::values::{Floats, Map, Numbers, Record, Strings, Value};
use crate::rounds::{Lost, Timed};
use crate::work::Tally;

/// A layout of messages that are one `V`.
pub trait Layout<V: Value>: Sized + 'static {
    /// As it is called in tables.
    const NAME: &'static str;

    /// A layout with memory for messages of up to so many bytes, which lies so many cache lines further on.
    fn with_room(bytes: usize, lines: usize) -> Self;

    /// Builds a message of `value`.
    fn build(&mut self, value: &V);

    /// What was built last.
    fn message(&self) -> &[u8];

    /// Reads all of a message that was built here; as [`Value::sum`].
    fn all(message: &[u8]) -> u64;

    /// Reads one element of a message that was built here; as [`Value::element`].
    fn one(message: &[u8], value: &V, n: usize) -> u64;

    /// Whether these are a message, if that is a step of its own.
    fn is_valid(_message: &[u8]) -> Option<bool> {
        None
    }
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is built.
    Build,
    /// All of it is read.
    ReadAll,
    /// One element is read, each time another one, of a message that is otherwise untouched.
    ReadOne,
    /// It is validated.
    Validate,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// So many strings.
    Strings(usize),
    /// A record of 20 fields.
    Record,
    /// A map of so many entries.
    Map(usize),
    /// So many `f32`.
    Floats(usize),
}

/// All that is compared.
pub const KINDS: [Kind; 6] = [
    Kind::Strings(10),
    Kind::Strings(1_000),
    Kind::Strings(100_000),
    Kind::Record,
    Kind::Map(10_000),
    Kind::Floats(1_000_000),
];

impl Kind {
    /// As it is called in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Strings(10) => "10 strings",
            Self::Strings(1_000) => "1,000 strings",
            Self::Strings(100_000) => "100,000 strings",
            Self::Strings(_) => "strings",
            Self::Record => "record of 20 fields",
            Self::Map(10_000) => "map of 10,000",
            Self::Map(_) => "map",
            Self::Floats(1_000_000) => "1,000,000 f32",
            Self::Floats(_) => "f32",
        }
    }
}

/// All candidates at one step, those who have it.
#[must_use]
pub fn candidates(kind: Kind, step: Step) -> Vec<Timed> {
    match kind {
        Kind::Strings(count) => all(Strings::new(count), step),
        Kind::Record => all(Record::new(), step),
        Kind::Map(count) => all(Map::new(count), step),
        Kind::Floats(count) => all(Floats::new(count), step),
    }
}

fn all<V>(value: V, step: Step) -> Vec<Timed>
where
    V: Decoded,
    InPlace: Layout<V>,
    Archives: Layout<V>,
    Buffers: Layout<V>,
    Messages: Layout<V>,
{
    let value = Rc::new(value);
    [
        timed::<V, InPlace>(&value, step),
        timed::<V, Archives>(&value, step),
        timed::<V, Buffers>(&value, step),
        timed::<V, Messages>(&value, step),
        timed::<V, Encoded<Postcard>>(&value, step),
        timed::<V, Encoded<Bincode>>(&value, step),
        timed::<V, Encoded<Json>>(&value, step),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One candidate at one step. What was read, or what was built, is checked after each slice.
fn timed<V: Value, L: Layout<V>>(value: &Rc<V>, step: Step) -> Option<Timed> {
    let value = Rc::clone(value);
    let mut layout = L::with_room(value.room(), 0);
    layout.build(&value);
    if step == Step::Validate {
        L::is_valid(layout.message())?;
    }
    let bytes = layout.message().len();
    let sum = value.sum();
    let mut numbers = Numbers(4);
    let mut lines = 0;
    let work = move |messages: u64| {
        if step == Step::Build {
            // In each slice elsewhere, as blocks of a pool are: a processor is slow where what it reads and what it writes
            // lie at the same place of two pages, and nobody should have that luck in all slices.
            lines = (lines + 17) % 64;
            layout = L::with_room(value.room(), lines);
            layout.build(&value);
        }
        let first = numbers.clone();
        let mut read = 0_u64;
        let started = Instant::now();
        match step {
            Step::Build => {
                for _ in 0..messages {
                    layout.build(black_box(&value));
                    black_box(layout.message());
                }
            }
            Step::ReadAll => {
                for _ in 0..messages {
                    read = read.wrapping_add(L::all(black_box(layout.message())));
                }
            }
            Step::ReadOne => {
                for _ in 0..messages {
                    let n = pick(&mut numbers, &*value);
                    read = read.wrapping_add(L::one(black_box(layout.message()), &value, n));
                }
            }
            Step::Validate => {
                for _ in 0..messages {
                    read += u64::from(L::is_valid(black_box(layout.message())) == Some(true));
                }
            }
        }
        let spent = started.elapsed();
        let expected = match step {
            Step::Build => 0,
            Step::ReadAll => sum.wrapping_mul(messages),
            Step::ReadOne => {
                let mut numbers = first;
                (0..messages)
                    .fold(0_u64, |all, _| all.wrapping_add(value.element(pick(&mut numbers, &*value))))
            }
            Step::Validate => messages,
        };
        if read != expected || (step == Step::Build && !holds::<V, L>(layout.message(), &value, sum)) {
            let tally = Tally { messages, sum: read, wrong: 1 };
            return Err(Lost { candidate: L::NAME.to_owned(), expected: messages, tally });
        }
        Ok(spent.as_nanos() as f64 / messages as f64)
    };
    Some(Timed::new(L::NAME, Box::new(work)).of_payloads(bytes))
}

fn pick<V: Value>(numbers: &mut Numbers, value: &V) -> usize {
    (((numbers.take() >> 32) * value.elements() as u64) >> 32) as usize
}

/// Whether a message is valid and reads as the value.
fn holds<V: Value, L: Layout<V>>(message: &[u8], value: &V, sum: u64) -> bool {
    let last = value.elements() - 1;
    L::is_valid(message) != Some(false)
        && L::all(message) == sum
        && L::one(message, value, last) == value.element(last)
}
