//! Payloads: the same values built and read in the layouts of Blockcast and of others.
//!
//! A layout builds directly into a block if it can, otherwise into its own buffer, which could be sent as it
//! is. Memory is reused for every message, so that nothing is allocated during the measurement.

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
use crate::rounds::{Failure, Timed};
use crate::work::Tally;

/// A layout whose messages are one `V` each.
pub trait Layout<V: Value>: Sized + 'static {
    /// Its name in tables.
    const NAME: &'static str;

    /// Creates a layout with memory for messages of up to `bytes` bytes, which starts `lines` cache lines
    /// into its allocation.
    fn with_room(bytes: usize, lines: usize) -> Self;

    /// Builds a message from `value`.
    fn build(&mut self, value: &V);

    /// Returns the message built last.
    fn message(&self) -> &[u8];

    /// Reads all of a message that was built here, like [`Value::sum`].
    fn all(message: &[u8]) -> u64;

    /// Reads one element of a message that was built here, like [`Value::element`].
    fn one(message: &[u8], value: &V, n: usize) -> u64;

    /// Validates these bytes, if the layout has a separate step for it.
    fn is_valid(_message: &[u8]) -> Option<bool> {
        None
    }
}

/// The measured step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Build a message.
    Build,
    /// Read all of a message.
    ReadAll,
    /// Read one element of a message that is otherwise untouched, a different one each time.
    ReadOne,
    /// Validate a message.
    Validate,
}

/// The value of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This many strings.
    Strings(usize),
    /// A record of 20 fields.
    Record,
    /// A map with this many entries.
    Map(usize),
    /// This many `f32`.
    Floats(usize),
}

/// All values that are compared.
pub const KINDS: [Kind; 6] = [
    Kind::Strings(10),
    Kind::Strings(1_000),
    Kind::Strings(100_000),
    Kind::Record,
    Kind::Map(10_000),
    Kind::Floats(1_000_000),
];

impl Kind {
    /// Its name in tables.
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

/// All candidates that have this step.
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

/// One candidate at one step. After each slice, its results are checked.
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
            // Moves the memory for each slice, like the blocks of a pool. A processor is slow if it reads and
            // writes at the same offset of two pages, and no candidate should have that luck in all slices.
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
            return Err(Failure::Lost { candidate: L::NAME.to_owned(), expected: messages, tally });
        }
        Ok(spent.as_nanos() as f64 / messages as f64)
    };
    Some(Timed::new(L::NAME, Box::new(work)).of_payloads(bytes))
}

fn pick<V: Value>(numbers: &mut Numbers, value: &V) -> usize {
    (((numbers.take() >> 32) * value.elements() as u64) >> 32) as usize
}

/// Returns whether a message is valid and reads as the value.
fn holds<V: Value, L: Layout<V>>(message: &[u8], value: &V, sum: u64) -> bool {
    let last = value.elements() - 1;
    L::is_valid(message) != Some(false)
        && L::all(message) == sum
        && L::one(message, value, last) == value.element(last)
}
