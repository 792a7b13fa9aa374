//! The values that are built and read, and the checksums of reading them.
#![allow(missing_debug_implementations, reason = "what rkyv derives has none")]

use std::collections::BTreeMap;

use blockcast_blocks::ArchiveType;
use blockcast_flat_types::Flat;

/// A value that every layout builds and reads.
pub trait Value: 'static {
    /// Returns the checksum of reading all of it.
    fn sum(&self) -> u64;

    /// Returns the number of elements that can be read separately.
    fn elements(&self) -> usize;

    /// Returns the checksum of reading element `n`.
    fn element(&self, n: usize) -> u64;

    /// Returns a size in bytes that suffices in every layout.
    fn room(&self) -> usize;
}

/// The checksum of a scalar or a text, which cannot be computed without reading it.
pub trait Touch {
    /// Returns a number that depends on the value. For a text, it depends on its length and its first byte.
    fn touch(self) -> u64;
}

macro_rules! touch {
    ($($type:ty: $value:ident => $number:expr),+ $(,)?) => { $(
        impl Touch for $type {
            #[inline(always)]
            fn touch(self) -> u64 {
                let $value = self;
                $number
            }
        }
    )+ };
}

touch! {
    bool: value => value.into(),
    u8: value => value.into(),
    u16: value => value.into(),
    u32: value => value.into(),
    u64: value => value,
    i16: value => value as u64,
    i32: value => value as u64,
    i64: value => value as u64,
    f32: value => value.to_bits().into(),
    f64: value => value.to_bits(),
    &str: value => value.as_bytes().touch(),
    &[u8]: value => value.len() as u64 + u64::from(value.first().copied().unwrap_or(0)),
}

/// Returns the sum of the checksums.
#[inline(always)]
pub fn sum(values: impl IntoIterator<Item: Touch>) -> u64 {
    values.into_iter().fold(0, |sum, value| sum.wrapping_add(value.touch()))
}

/// Pseudorandom numbers, the same in every run (Steele and Vigna's SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// Returns the next number.
    #[inline(always)]
    pub fn take(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a word of 4 to 23 letters.
    pub fn word(&mut self) -> String {
        let letters = 4 + self.take() % 20;
        (0..letters).map(|_| char::from(b'a' + (self.take() % 26) as u8)).collect()
    }
}

/// `list<string>`.
#[derive(rkyv::Archive, rkyv::Serialize, Debug)]
pub struct Strings(pub Vec<String>);

impl Strings {
    /// Creates a list of `count` words.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let mut numbers = Numbers(1);
        Self((0..count).map(|_| numbers.word()).collect())
    }
}

impl Value for Strings {
    fn sum(&self) -> u64 {
        sum(self.0.iter().map(String::as_str))
    }

    fn elements(&self) -> usize {
        self.0.len()
    }

    fn element(&self, n: usize) -> u64 {
        self.0[n].as_str().touch()
    }

    fn room(&self) -> usize {
        1024 + self.0.iter().map(|text| text.len() + 24).sum::<usize>()
    }
}

/// `list<f32>`.
#[derive(rkyv::Archive, rkyv::Serialize, Debug)]
pub struct Floats(pub Vec<f32>);

impl Floats {
    /// Creates a list of `count` numbers.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let mut numbers = Numbers(2);
        Self((0..count).map(|_| (numbers.take() % 1_000_000) as f32 / 1000.0).collect())
    }
}

impl Value for Floats {
    fn sum(&self) -> u64 {
        sum(self.0.iter().copied())
    }

    fn elements(&self) -> usize {
        self.0.len()
    }

    fn element(&self, n: usize) -> u64 {
        self.0[n].touch()
    }

    fn room(&self) -> usize {
        // A number takes up to 8 bytes as text.
        1024 + 12 * self.0.len()
    }
}

/// A map from words to numbers.
#[derive(Debug)]
pub struct Map {
    /// The map.
    pub entries: Entries,
    /// Its keys, for lookups by index.
    pub keys: Vec<String>,
}

/// Returns the map itself.
#[derive(rkyv::Archive, rkyv::Serialize, Debug)]
pub struct Entries(pub BTreeMap<String, u64>);

impl Map {
    /// Creates a map with `count` entries.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let mut numbers = Numbers(3);
        let mut entries = BTreeMap::new();
        while entries.len() < count {
            entries.insert(numbers.word(), numbers.take() >> 32);
        }
        let keys = entries.keys().cloned().collect();
        Self { entries: Entries(entries), keys }
    }
}

impl Value for Map {
    fn sum(&self) -> u64 {
        self.entries
            .0
            .iter()
            .fold(0, |all, (key, value)| all.wrapping_add(key.as_str().touch()).wrapping_add(value.touch()))
    }

    fn elements(&self) -> usize {
        self.keys.len()
    }

    fn element(&self, n: usize) -> u64 {
        self.entries.0[&self.keys[n]]
    }

    fn room(&self) -> usize {
        1024 + self.keys.iter().map(|key| key.len() + 64).sum::<usize>()
    }
}

/// Calls a macro with the given arguments and the fields of [`Record`], grouped by kind.
macro_rules! fields {
    ($do:ident!($($arguments:tt)*)) => {
        $do! {
            $($arguments)*
            scalars:
                id: u64, time: u64, x: f64, y: f64, z: f64, offset: i64, sequence: u32, retries: i32,
                speed: f32, heading: f32, battery: f32, marks: u16, temperature: i16, kind: u8, priority: u8,
                active: bool;
            texts: name, site, unit, note
        }
    };
}
pub(super) use fields;

macro_rules! define_record {
    (scalars: $($scalar:ident: $type:ty),+; texts: $($text:ident),+) => {
        /// A record of 20 fields, four of which are texts.
        #[derive(Flat, rkyv::Archive, rkyv::Serialize, serde::Serialize, Debug)]
        pub struct Record {
            $(#[allow(missing_docs)] pub $scalar: $type,)+
            $(#[allow(missing_docs)] pub $text: String,)+
        }

        /// A [`Record`] whose texts borrow from the message.
        #[derive(serde::Deserialize, Debug)]
        pub struct BorrowedRecord<'a> {
            $(#[allow(missing_docs)] pub $scalar: $type,)+
            $(#[allow(missing_docs)] pub $text: &'a str,)+
        }

        impl Record {
            fn touch_all(&self) -> u64 {
                0_u64 $(.wrapping_add(self.$scalar.touch()))+ $(.wrapping_add(self.$text.as_str().touch()))+
            }
        }

        impl BorrowedRecord<'_> {
            pub(super) fn touch_all(&self) -> u64 {
                0_u64 $(.wrapping_add(self.$scalar.touch()))+ $(.wrapping_add(self.$text.touch()))+
            }
        }
    };
}
fields!(define_record!());

impl Record {
    /// Creates the record.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is one of many, none of them the usual one")]
    pub fn new() -> Self {
        Self {
            id: 0x0123_4567_89ab_cdef,
            time: 1_700_000_000_000_000_000,
            x: 12.5,
            y: -7.25,
            z: 1013.25,
            offset: -123_456_789,
            sequence: 4_000_000_000,
            retries: -3,
            speed: 1.5,
            heading: 271.0,
            battery: 0.87,
            marks: 0x8421,
            temperature: -40,
            kind: 7,
            priority: 200,
            active: true,
            name: "anemometer-17".to_owned(),
            site: "north roof".to_owned(),
            unit: "m/s".to_owned(),
            note: "calibrated in spring, to be checked again before winter".to_owned(),
        }
    }
}

impl Value for Record {
    fn sum(&self) -> u64 {
        self.touch_all()
    }

    fn elements(&self) -> usize {
        1
    }

    fn element(&self, _: usize) -> u64 {
        self.note.as_str().touch()
    }

    fn room(&self) -> usize {
        2048
    }
}

// SAFETY: only rkyv's own code writes the archive, and no other type has this name.
unsafe impl ArchiveType for Strings {
    const NAME: &'static str = "bench.strings";
}

// SAFETY: only rkyv's own code writes the archive, and no other type has this name.
unsafe impl ArchiveType for Floats {
    const NAME: &'static str = "bench.floats";
}

// SAFETY: only rkyv's own code writes the archive, and no other type has this name.
unsafe impl ArchiveType for Entries {
    const NAME: &'static str = "bench.entries";
}

// SAFETY: only rkyv's own code writes the archive, and no other type has this name.
unsafe impl ArchiveType for Record {
    const NAME: &'static str = "bench.record";
}
