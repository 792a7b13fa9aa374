//! serde formats: written into a block, and decoded completely by every reader. Texts are borrowed from the
//! message, numbers and lists are copied.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::values::{BorrowedRecord, Floats, Map, Record, Strings, Touch, Value, sum};
use super::{Block, Layout};

/// A serde format.
pub trait Format: 'static {
    /// Its name in tables.
    const NAME: &'static str;

    /// Writes `value` to the start of `block` and returns the number of bytes.
    fn encode<T: Serialize>(value: &T, block: &mut [u8]) -> usize;

    /// Reads a value.
    fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> T;
}

/// <https://postcard.jamesmunns.com/wire-format>
#[derive(Debug)]
pub struct Postcard;

impl Format for Postcard {
    const NAME: &'static str = "postcard";

    fn encode<T: Serialize>(value: &T, block: &mut [u8]) -> usize {
        postcard::to_slice(value, block).expect("there is room").len()
    }

    fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> T {
        postcard::from_bytes(message).expect("it was encoded before")
    }
}

/// bincode 2 with fixed-length integers, its fastest configuration.
#[derive(Debug)]
pub struct Bincode;

impl Format for Bincode {
    const NAME: &'static str = "bincode";

    fn encode<T: Serialize>(value: &T, block: &mut [u8]) -> usize {
        bincode::serde::encode_into_slice(value, block, bincode::config::legacy()).expect("there is room")
    }

    fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> T {
        let decoded = bincode::serde::borrow_decode_from_slice(message, bincode::config::legacy());
        decoded.expect("it was encoded before").0
    }
}

/// JSON, the slow end of the scale.
#[derive(Debug)]
pub struct Json;

impl Format for Json {
    const NAME: &'static str = "serde-json";

    fn encode<T: Serialize>(value: &T, block: &mut [u8]) -> usize {
        let room = block.len();
        let mut rest = block;
        serde_json::to_writer(&mut rest, value).expect("there is room");
        room - rest.len()
    }

    fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> T {
        serde_json::from_slice(message).expect("it was encoded before")
    }
}

/// A value as serde sees it.
pub trait Decoded: Value {
    /// The type that is written.
    type Source: Serialize;
    /// The type that is read.
    type Read<'a>: Deserialize<'a>;

    /// Returns what is written.
    fn source(&self) -> &Self::Source;
    /// Touches everything that was read.
    fn sum_of(read: Self::Read<'_>) -> u64;
    /// Touches element `n` of what was read.
    fn element_of(&self, read: Self::Read<'_>, n: usize) -> u64;
}

impl Decoded for Strings {
    type Source = Vec<String>;
    type Read<'a> = Vec<&'a str>;

    fn source(&self) -> &Vec<String> {
        &self.0
    }

    fn sum_of(read: Vec<&str>) -> u64 {
        sum(read)
    }

    fn element_of(&self, read: Vec<&str>, n: usize) -> u64 {
        read[n].touch()
    }
}

impl Decoded for Floats {
    type Source = Vec<f32>;
    type Read<'a> = Vec<f32>;

    fn source(&self) -> &Vec<f32> {
        &self.0
    }

    fn sum_of(read: Vec<f32>) -> u64 {
        sum(read)
    }

    fn element_of(&self, read: Vec<f32>, n: usize) -> u64 {
        read[n].touch()
    }
}

impl Decoded for Map {
    type Source = BTreeMap<String, u64>;
    type Read<'a> = BTreeMap<&'a str, u64>;

    fn source(&self) -> &BTreeMap<String, u64> {
        &self.entries.0
    }

    fn sum_of(read: BTreeMap<&str, u64>) -> u64 {
        read.into_iter()
            .fold(0, |all, (key, value)| all.wrapping_add(key.touch()).wrapping_add(value.touch()))
    }

    fn element_of(&self, read: BTreeMap<&str, u64>, n: usize) -> u64 {
        read[self.keys[n].as_str()]
    }
}

impl Decoded for Record {
    type Source = Record;
    type Read<'a> = BorrowedRecord<'a>;

    fn source(&self) -> &Record {
        self
    }

    fn sum_of(read: BorrowedRecord<'_>) -> u64 {
        read.touch_all()
    }

    fn element_of(&self, read: BorrowedRecord<'_>, _: usize) -> u64 {
        read.note.touch()
    }
}

/// Messages of one format.
#[derive(Debug)]
pub struct Encoded<F> {
    block: Block,
    format: PhantomData<F>,
}

impl<F: Format, V: Decoded> Layout<V> for Encoded<F> {
    const NAME: &'static str = F::NAME;

    fn with_room(bytes: usize, lines: usize) -> Self {
        Self { block: Block::with_room(bytes, lines), format: PhantomData }
    }

    fn build(&mut self, value: &V) {
        self.block.len = F::encode(value.source(), &mut self.block);
    }

    fn message(&self) -> &[u8] {
        self.block.message()
    }

    fn all(message: &[u8]) -> u64 {
        V::sum_of(F::decode(message))
    }

    fn one(message: &[u8], value: &V, n: usize) -> u64 {
        value.element_of(F::decode(message), n)
    }
}
