//! A flat, self-relative data layout that is built and read in place.
//!
//! A message is one value of a type. It is written front to back into a block of memory and read there,
//! without parsing and without a copy. It contains no pointers, only forward offsets relative to their own
//! position. The layout covers the value types of WIT. `FORMAT.md` in this crate specifies it byte by byte.
//!
//! ```
//! use blockcast_flat_types::Flat;
//!
//! type Lines = Flat<Vec<String>>;         // WIT: list<string>
//!
//! // Build in place, with as many lines as fit into the block.
//! let mut block = [0; 4096];
//! let length = Lines::build(&mut block, |list| {
//!     let mut list = list.until_full(16)?;
//!     for line in ["to be", "or not to be"] {
//!         if !list.push_if_fits(line)? {
//!             break;
//!         }
//!     }
//!     list.finish()
//! })?;
//!
//! // Read in place: validate once, then use plain memory accesses.
//! let lines = Lines::access(&block[..length])?;
//! assert_eq!(lines.len(), 2);
//! assert_eq!(lines.get(1), Some("or not to be"));
//! assert_eq!(lines, ["to be", "or not to be"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The parts of a flat type
//!
//! | part | for `Vec<String>` | purpose |
//! | --- | --- | --- |
//! | [`FlatType::View`] | [`ListView`] | reads: `Copy`, borrows the message, neither panics nor allocates |
//! | [`FlatType::Builder`] | [`ListBuilder`] | writes in place: borrows the block, is consumed to return [`Finished`] |
//! | [`ToFlat`] | `[&str]`, `Vec<String>`, a [`ListView`] of another message, .. | values for [`Flat::write`] and for comparison with views |
//! | [`FlatType::TYPE`] | [`schema::Type::List`] | the layout, the fingerprint and the WIT text |
//!
//! # Trust
//!
//! [`Flat::access`] accepts any bytes. [`Flat::access_unchecked`] requires bytes that were validated before
//! or written by a builder. A [`Finished`] cannot be forged or taken from another build, so a build that
//! returns `Ok` has written a valid message:
//!
//! ```compile_fail
//! # use blockcast_flat_types::{BuildError, Flat};
//! Flat::<Vec<String>>::build(&mut [0; 64], |list| {
//!     let mut list = list.with_len(1)?;
//!     list.push("half")?;
//!     Ok::<_, BuildError>(list)           // not finished
//! });
//! ```
//!
//! ```compile_fail
//! # use blockcast_flat_types::{BuildError, Flat};
//! let mut other = [0; 64];
//! let mut kept = None;
//! Flat::<String>::build::<BuildError>(&mut other, |text| {
//!     kept = Some(text.set("another")?);  // a proof cannot leave its build
//!     Err(BuildError::Misaligned)
//! });
//! Flat::<String>::build(&mut [0; 64], |_| Ok::<_, BuildError>(kept.unwrap()));
//! ```

pub mod dynamic;
mod error;
mod flat;
mod flat_type;
mod index;
mod kinds;
#[cfg(feature = "payload")]
mod payload;
pub mod schema;
#[cfg(feature = "serde")]
mod serialize;
mod target;
mod to_flat;
mod validator;

/// Derives [`FlatType`] and [`ToFlat`] for a struct or enum, and generates its view and its builder.
///
/// | source | WIT | view | builder |
/// | --- | --- | --- | --- |
/// | `struct S { a: A, b: B }` | record | `SView` with a method per field | `SBuilder`: `a(..)`, then `b(..)`, then `finish()` |
/// | `struct S(A);` | as `A` | as `A` | as `A` |
/// | `struct S(A, B);` | tuple | tuple of views | [`TupleBuilder`] |
/// | `enum E { A, B }` | enum | the type itself, which must be `Copy` and `Debug` | [`ScalarBuilder`] |
/// | `enum E { A, B(X), C { x: X } }` | variant | `EView`, an enum | `EBuilder` with a method per case |
/// | `#[flat(flags)] struct F { a: bool, b: bool }` | flags | the type itself, which must be `Copy` and `Debug` | [`ScalarBuilder`] |
///
/// Each builder method `field(value)` has a twin `field_with(|builder| ..)` that builds the value in place.
/// Views can be compared with the type and converted into it. The type can have type parameters but no
/// lifetimes: it owns its contents, and its view borrows the message.
///
/// ```
/// use blockcast_flat_types::{BuildError, Flat};
///
/// /// Statistics of a text.
/// #[derive(Flat, Debug, PartialEq)]
/// struct Report {
///     words: u64,
///     longest: Option<String>,
///     lines: Vec<Line>,
/// }
///
/// #[derive(Flat, Debug, PartialEq)]
/// enum Line {
///     Empty,
///     Text { text: String, words: u32 },
/// }
///
/// // Build field by field, in place. The compiler checks the order and that no field is missing.
/// let mut block = [0; 256];
/// let length = Flat::<Report>::build::<BuildError>(&mut block, |report| {
///     report
///         .words(3)?
///         .longest(Some("three"))?
///         .lines_with(|list| {
///             let mut list = list.with_len(2)?;
///             list.push_with(|line| line.text("one two three", 3))?;
///             list.push_with(|line| line.empty())?;
///             list.finish()
///         })?
///         .finish()
/// })?;
///
/// let report = Flat::<Report>::access(&block[..length])?;
/// assert_eq!((report.words(), report.longest()), (3, Some("three")));
/// if let Some(LineView::Text { text, words }) = report.lines().get(0) {
///     assert_eq!((text, words), ("one two three", 3));
/// }
///
/// // Or write a value in one call.
/// let line = Line::Text { text: "one two three".into(), words: 3 };
/// let value = Report { words: 3, longest: Some("three".into()), lines: vec![line, Line::Empty] };
/// assert_eq!(Flat::<Report>::to_vec(&value)?, block[..length]);
/// assert_eq!(Report::from(report), value);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The generated code refers to this crate as `blockcast_flat_types`, or as `blockcast::flat` in a package
/// that depends only on `blockcast`. If it has another path in your program, name it with `#[flat(crate =
/// path::to::flat_types)]`.
///
/// ```compile_fail
/// # use blockcast_flat_types::{BuildError, Flat};
/// #[derive(Flat)]
/// struct Size { width: u32, height: u32 }
/// Flat::<Size>::build::<BuildError>(&mut [0; 8], |size| size.width(1)?.finish());  // no height
/// ```
///
/// ```compile_fail
/// # use blockcast_flat_types::Flat;
/// # struct Other;
/// #[derive(Flat)]
/// struct Outer { other: Other }  // no flat layout
/// ```
#[cfg(feature = "derive")]
pub use blockcast_flat_types_derive::Flat;
#[cfg(feature = "serde")]
#[doc(hidden)]
pub use serde;

pub use error::{BuildError, FlatError};
pub use flat::Flat;
pub use flat_type::FlatType;
pub use index::{Index, Width};
pub use kinds::{
    Items, Key, ListBuilder, ListIter, ListView, ListWriter, MapBuilder, MapView, MapWriter, Number,
    OptionBuilder, ResultBuilder, ScalarBuilder, StringBuilder, TupleBuilder, UnitBuilder,
};
#[cfg(feature = "serde")]
pub use serialize::Serialized;
pub use target::{BuildFn, Finished, Place};
pub use to_flat::ToFlat;

/// Building blocks of derived code. Not part of the public API.
///
/// Derived code is in the program's crate, and refers to this crate by a path that the program chooses. So
/// the functions here are safe for every caller: they check at compile time that their parameters agree with
/// the type.
///
/// ```compile_fail,E0080
/// # use blockcast_flat_types::{Flat, derived};
/// #[derive(Flat)]
/// struct Number { number: u64 }
///
/// let bytes = Flat::<Number>::to_vec(Number { number: u64::MAX })?;
/// let view = Flat::<Number>::access(&bytes)?;
/// println!("{}", derived::RecordView::field::<String, 0>(view.0)); // is a `u64`
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// ```compile_fail,E0080
/// # use blockcast_flat_types::{BuildError, Finished, Flat, Index, Place, ToFlat, derived};
/// struct Nothing;
/// impl ToFlat<(u8, String)> for Nothing {
///     fn write_to<'b, I: Index>(&self, place: Place<'b, (u8, String), I>) -> Result<Finished<'b>, BuildError> {
///         let (mut tuple, written) = derived::RecordBuilder::at(place)?;
///         let written = tuple.put::<u8, 0, 1>(1_u8, written)?;
///         tuple.finish_put(written) // without the string
///     }
///     fn end_after<I: Index>(&self, cursor: usize) -> usize { cursor }
///     fn matches<I: Index>(&self, _: (u8, &str)) -> bool { false }
/// }
/// Flat::<(u8, String)>::to_vec(Nothing)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// The unsafe part of derived code, the implementation of [`FlatType`], compiles only with these building
/// blocks:
///
/// ```compile_fail,E0308
/// # use blockcast_flat_types::Flat;
/// mod forged {
///     pub use blockcast_flat_types::*;
///     pub mod derived {
///         pub use blockcast_flat_types::derived::*;
///         use blockcast_flat_types::{FlatError, FlatType, Index};
///         /// Accepts every record.
///         pub struct RecordValidator<'v, 'a, T, I: Index>(std::marker::PhantomData<(&'v (), &'a (), T, I)>);
///         impl<'v, 'a, T, I: Index> RecordValidator<'v, 'a, T, I> {
///             pub fn new(_: &'v mut Validator<'a, I>, _: usize) -> Self { Self(std::marker::PhantomData) }
///             pub fn field<A: FlatType, const N: usize>(&mut self) -> Result<(), FlatError> { Ok(()) }
///             pub fn finish(self) -> Result<(), FlatError> { Ok(()) }
///         }
///     }
/// }
/// #[derive(Flat)]
/// #[flat(crate = forged)]
/// struct Text { text: String }
/// ```
/// ```
/// # use blockcast_flat_types::Flat;
/// mod renamed {
///     pub use blockcast_flat_types::*;
/// }
/// #[derive(Flat)]
/// #[flat(crate = renamed)]
/// struct Text { text: String }
///
/// let bytes = Flat::<Text>::to_vec(Text { text: "text".to_owned() })?;
/// assert_eq!(Flat::<Text>::access(&bytes)?.text(), "text");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(hidden)]
pub mod derived {
    pub use crate::kinds::{
        Bits, RecordBuilder, RecordValidator, RecordView, Rewritable, Rewritten, Variant, VariantBuilder,
    };
    pub use crate::target::Target;
    pub use crate::to_flat::{KeyOrder, Text};
    pub use crate::validator::Validator;
}

/// Keeps the code: the feature `serde` is on.
#[cfg(feature = "serde")]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_serde {
    ($($code:tt)*) => { $($code)* };
}

/// Drops the code: the feature `serde` is off.
#[cfg(not(feature = "serde"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_serde {
    ($($code:tt)*) => {};
}
