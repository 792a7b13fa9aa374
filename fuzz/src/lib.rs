//! Types and checks that the fuzz targets share. The types cover every kind of field, nesting and padding.

pub mod archive;
pub mod hostile;

use std::collections::BTreeMap;
use std::fmt::Write;

use arbitrary::Arbitrary;
use blockcast_flat_types::{Flat, FlatType, Index, ToFlat, dynamic::Schema};

/// A record with a field of every kind.
#[derive(Flat, Arbitrary, Debug, Clone, PartialEq)]
pub struct Everything {
    pub flag: bool,
    pub small: (u8, i16),
    pub text: String,
    pub large: u64,
    pub texts: Vec<String>,
    pub numbers: Vec<u64>,
    pub lists: Vec<Vec<Option<u16>>>,
    pub maybe: Option<Vec<char>>,
    pub outcome: Result<(), String>,
    pub map: BTreeMap<String, Vec<u16>>,
    pub by_pair: BTreeMap<(i8, bool), Color>,
    pub shapes: Vec<Shape>,
    pub rights: Rights,
}

/// A variant with every form of payload.
#[derive(Flat, Arbitrary, Debug, Clone, PartialEq)]
pub enum Shape {
    Nothing,
    Circle(i64),
    Pair(u8, String),
    Named { name: String, corners: Vec<u32> },
}

/// An enum.
#[derive(Flat, Arbitrary, Debug, Clone, Copy, PartialEq)]
pub enum Color {
    Red,
    Green,
    Blue,
}

/// A set of flags.
#[derive(Flat, Arbitrary, Debug, Clone, Copy, PartialEq)]
#[flat(flags)]
pub struct Rights {
    pub read: bool,
    pub write: bool,
    pub run: bool,
}

/// A sink that reads all text printed to it and discards it.
pub struct Sink;

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        assert!(std::str::from_utf8(text.as_bytes()).is_ok(), "printed text is UTF-8");
        Ok(())
    }
}

/// Checks that bytes are invalid, or that all of them can be read and written again as the canonical message.
pub fn access<T: FlatType, I: Index>(bytes: &[u8])
where
    for<'a> T::View<'a, I>: ToFlat<T>,
{
    let checked = Flat::<T, I>::access(bytes);
    if bytes.len() % 8 == 0 {
        // The reader that knows only the schema's text must agree. It parses the text every time, so it runs
        // only for some lengths.
        let schema = Schema::parse(&Flat::<T, I>::schema()).expect("the schema of a type");
        assert_eq!(schema.validate(bytes).is_ok(), checked.is_ok());
    }
    let Ok(view) = checked else { return };
    write!(Sink, "{view:?}").expect("the sink takes everything");
    let value = T::from_view::<I>(view);
    assert!(value.matches::<I>(view) || !comparable::<T>(), "a value equals the view it was read from");
    let again = Flat::<T, I>::to_vec(&value).expect("the value fits into the same index");
    assert!(again.len() <= bytes.len(), "no message is shorter than the canonical one");
    assert_eq!(Flat::<T, I>::to_vec(view).as_ref(), Ok(&again), "a view is written like its value");
    assert_eq!(Flat::<T, I>::encoded_len(view), again.len());
    let canonical = Flat::<T, I>::access(&again).expect("a written message is valid");
    assert!(value.matches::<I>(canonical) || !comparable::<T>());
    let third = Flat::<T, I>::to_vec(T::from_view::<I>(canonical)).expect("the value fits again");
    assert_eq!(again, third, "there is one canonical message");
}

/// Whether values of the type equal themselves. A float can be NaN, which does not equal itself.
fn comparable<T: FlatType>() -> bool {
    !T::TYPE.to_string().contains("f32") && !T::TYPE.to_string().contains("f64")
}

/// Checks that a value is read as it was written, that its length is `encoded_len`, and that a shorter block
/// is too small.
pub fn round_trip<T: FlatType + PartialEq, I: Index>(value: &T, short_by: usize) {
    let length = Flat::<T, I>::encoded_len(value);
    let mut block = vec![0xaa; length];
    let Ok(written) = Flat::<T, I>::write(value, &mut block) else {
        assert!(I::BYTES < 4, "nothing here is too large for u32");
        return;
    };
    assert_eq!(written, length);
    assert!(Flat::<T, I>::read(&block).expect("a written message is valid") == *value);
    let short = length - 1 - short_by % length;
    assert!(Flat::<T, I>::write(value, &mut block[..short]).is_err());
}
