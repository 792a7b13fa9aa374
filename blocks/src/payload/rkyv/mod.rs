//! rkyv archives as messages: [`Rkyv`].
//!
//! A value is serialised straight into its block, whose bytes the subscriber accesses in place. The archive's
//! root lies at the end of the message, as rkyv's does, so a message has exactly the archive's length; blocks
//! are aligned to 64 bytes, which is enough for every alignment that rkyv writes.
//!
//! # Who vouches for the bytes
//! A subscriber in the publisher's process reads an archive without validating it, so reading costs the same
//! whatever the archive's size. What rkyv writes is only valid if every implementation of `rkyv::Archive` and
//! `rkyv::Serialize` that takes part is correct, and these are safe traits. Therefore a message's type is an
//! [`ArchiveType`], which is `unsafe` to implement by hand. [`archive`] does it safely: it derives rkyv's
//! traits for the type itself, and only accepts fields that are also `ArchiveType`s, down to those of the
//! standard library. The schema then names each field and its type.
//!
//! Bytes from guests and other programs are always validated.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;

use rkyv::api::access_with_context;
use rkyv::api::high::{HighSerializer, HighValidator, to_bytes_in};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Error, Source, Trace};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::{Positional, Writer};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::shared::SharedValidator;
use rkyv::{Archive, Portable, Serialize};

mod derive;
mod layout;
mod types;

pub use blockcast_flat_types_derive::archive;
pub use layout::Layout;

/// Items that the code of the macro uses. Not part of the interface.
#[doc(hidden)]
pub use ::core::stringify;
#[doc(hidden)]
pub use ::rkyv as library;

use crate::payload::schema::Schema;
use crate::payload::{BLOCK_ALIGNMENT, BuildError, InvalidPayload, Payload, WriteFrom};

/// A type whose archives travel on topics, where they are read without validation.
///
/// Implemented for the standard library types that consist of data: numbers, `bool`, `char`, `String`,
/// `Option`, `Result`, `Vec`, `VecDeque`, `Box`, arrays, tuples of up to 8, `BTreeMap` and `BTreeSet`. Give
/// it to a type of your own with [`#[archive]`](archive), which is safe.
///
/// ```compile_fail,E0277
/// # use blockcast_blocks::archive;
/// struct Forged;
///
/// // Safe code, which writes nothing at all: the archive is whatever was in the block.
/// impl rkyv::Archive for Forged {
///     type Archived = rkyv::string::ArchivedString;
///     type Resolver = ();
///     fn resolve(&self, (): (), _: rkyv::Place<Self::Archived>) {}
/// }
/// impl<S: rkyv::rancor::Fallible + ?Sized> rkyv::Serialize<S> for Forged {
///     fn serialize(&self, _: &mut S) -> Result<(), S::Error> { Ok(()) }
/// }
///
/// #[archive]
/// struct Reading { sensor: Forged } // nobody vouches for it
/// ```
/// With a field that somebody vouches for, it compiles:
/// ```
/// # use blockcast_blocks::{ArchiveType, archive};
/// struct Vouched;
///
/// impl rkyv::Archive for Vouched {
///     type Archived = rkyv::string::ArchivedString;
///     type Resolver = rkyv::string::StringResolver;
///     fn resolve(&self, resolver: Self::Resolver, out: rkyv::Place<Self::Archived>) {
///         rkyv::string::ArchivedString::resolve_from_str("fixed", resolver, out);
///     }
/// }
/// impl<S: rkyv::ser::Writer + rkyv::rancor::Fallible<Error: rkyv::rancor::Source> + ?Sized> rkyv::Serialize<S> for Vouched {
///     fn serialize(&self, to: &mut S) -> Result<Self::Resolver, S::Error> {
///         rkyv::string::ArchivedString::serialize_from_str("fixed", to)
///     }
/// }
/// // SAFETY: the two functions above write an archived string together, which asks for 4 bytes of alignment. The name is
/// // ours.
/// unsafe impl ArchiveType for Vouched {
///     const NAME: &'static str = "example.vouched.v1";
/// }
///
/// #[archive]
/// struct Reading { sensor: Vouched }
/// ```
///
/// # Safety
/// Whoever implements this vouches for three things:
///
/// * What [`Serialize`] and [`Archive::resolve`] of the type write into any block is a valid
///   `Self::Archived`, as its `CheckBytes` defines it, whatever the value. Both are safe traits, so this is
///   an obligation for *every* implementation that takes part: a hand-written one, a field's, the one behind
///   a `#[rkyv(with = ..)]`. That rkyv's derive macros made the type's own is not enough if one of its fields
///   has a hand-written one.
/// * Two types with the same [`layout`](Self::layout) and archives of the same size have the same archived
///   layout. A subscriber reads what a publisher of another program wrote if these are equal.
/// * Nothing in an archive asks for an alignment of more than 32 bytes. ([`Rkyv`] of a type whose archive
///   itself does not compile.)
pub unsafe trait ArchiveType: Archive + 'static {
    /// Name of the layout in the schema, such as `reading.v2`. Change it whenever the fields or their order
    /// do: rkyv has no schema of its own that could be compared.
    const NAME: &'static str;

    /// Appends to a schema what tells this layout from others: the name, unless the type has parts that say
    /// more.
    fn layout(layout: &mut Layout) {
        layout.text(Self::NAME);
    }
}

/// Alignment in bytes that archived types may ask for: rkyv pads by less than that. Blocks would allow more.
const MAX_ALIGNMENT: usize = 32;
const _: () = assert!(MAX_ALIGNMENT <= BLOCK_ALIGNMENT);

/// The largest valid depth of nested pointers in an archive. Types that contain themselves could otherwise be
/// nested as deeply as there are bytes, and validating them would overflow the stack.
const MAX_DEPTH: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");

/// A `T`, archived by rkyv: read as `&T::Archived`, without a copy.
///
/// bytecheck validates the archive unless the bytes are the publisher's own typed write. Validation refuses
/// values that are nested more than 512 pointers deep, such as long linked lists.
///
/// Several threads read an archive at once, so it is `Send` and `Sync`:
/// ```compile_fail,E0277
/// # use blockcast_blocks::{ArchiveType, Payload, Rkyv};
/// #[derive(rkyv::Archive, rkyv::Serialize)]
/// struct Local(std::marker::PhantomData<*const u8>);
/// // SAFETY: nothing is written.
/// unsafe impl ArchiveType for Local {
///     const NAME: &'static str = "example.local";
/// }
/// fn published<P: Payload>() {}
/// published::<Rkyv<Local>>();
/// ```
/// ```
/// # use blockcast_blocks::{ArchiveType, Payload, Rkyv};
/// #[derive(rkyv::Archive, rkyv::Serialize)]
/// struct Shared(std::marker::PhantomData<u8>);
/// // SAFETY: nothing is written.
/// unsafe impl ArchiveType for Shared {
///     const NAME: &'static str = "example.shared";
/// }
/// fn published<P: Payload>() {}
/// published::<Rkyv<Shared>>();
/// ```
pub struct Rkyv<T>(PhantomData<fn() -> T>);

impl<T> fmt::Debug for Rkyv<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rkyv")
    }
}

/// Archives a value into a block.
#[derive(Debug)]
pub struct RkyvBuilder<'b, T> {
    block: &'b mut [u8],
    brand: PhantomData<fn(&'b (), T) -> &'b ()>,
}

/// The length of a complete archive.
#[derive(Debug)]
pub struct RkyvBuilt<'b> {
    len: usize,
    brand: PhantomData<fn(&'b ()) -> &'b ()>,
}

/// Where an archive is written: the block itself.
#[derive(Debug)]
pub struct BlockWriter<'w> {
    block: &'w mut [u8],
    len: usize,
}

/// Why an archive could not be written.
#[derive(Debug)]
pub struct ArchiveError(BuildError);

/// The block ended before the archive did.
#[derive(Debug)]
struct NoRoom {
    needed: usize,
    available: usize,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the archive needs at least {} bytes and the block has {}", self.needed, self.available)
    }
}

impl std::error::Error for NoRoom {}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ArchiveError {}

impl Source for ArchiveError {
    fn new<T: std::error::Error + Send + Sync + 'static>(source: T) -> Self {
        Self(match (&source as &dyn Any).downcast_ref::<NoRoom>() {
            Some(&NoRoom { needed, available }) => BuildError::TooSmall { needed, available },
            None => BuildError::Unrepresentable(source.to_string()),
        })
    }
}

impl Trace for ArchiveError {
    fn trace<R: fmt::Debug + fmt::Display + Send + Sync + 'static>(self, _trace: R) -> Self {
        self
    }
}

impl Positional for BlockWriter<'_> {
    fn pos(&self) -> usize {
        self.len
    }
}

impl<E: Source> Writer<E> for BlockWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        let (available, needed) = (self.block.len(), self.len.saturating_add(bytes.len()));
        let target = self.block.get_mut(self.len..needed);
        target.ok_or_else(|| E::new(NoRoom { needed, available }))?.copy_from_slice(bytes);
        self.len = needed;
        Ok(())
    }
}

/// The serializer that writes a `T` into a block.
type BlockSerializer<'w, 'a> = HighSerializer<BlockWriter<'w>, ArenaHandle<'a>, ArchiveError>;

impl<'b, T> RkyvBuilder<'b, T> {
    /// Archives `value` into the block. The bytes are written once, in place; rkyv's scratch memory is its
    /// thread's arena, which is allocated once per thread.
    ///
    /// # Errors
    /// [`BuildError::TooSmall`] if the block is too small, [`BuildError::Unrepresentable`] if the type's own
    /// serialization refuses the value.
    pub fn write(self, value: &T) -> Result<RkyvBuilt<'b>, BuildError>
    where
        T: for<'w, 'a> Serialize<BlockSerializer<'w, 'a>>,
    {
        let writer = BlockWriter { block: self.block, len: 0 };
        match to_bytes_in::<_, ArchiveError>(value, writer) {
            Ok(written) => Ok(RkyvBuilt { len: written.len, brand: PhantomData }),
            Err(error) => Err(error.0),
        }
    }
}

// SAFETY: equal schemas mean equal texts and sizes, for which `ArchiveType` promises equal layouts, and that
// what is written is valid. `Portable` rules out interior mutability.
unsafe impl<T> Payload for Rkyv<T>
where
    T: ArchiveType,
    T::Archived: Portable + for<'a> CheckBytes<HighValidator<'a, Error>> + Send + Sync + 'static,
{
    type View<'a> = &'a T::Archived;
    type Builder<'b> = RkyvBuilder<'b, T>;
    type Built<'b> = RkyvBuilt<'b>;

    fn schema() -> Schema {
        let _checked = Self::alignment();
        let mut layout = Layout::new();
        T::layout(&mut layout);
        Schema::named(layout.finish(size_of::<T::Archived>()))
    }

    fn alignment() -> usize {
        const { assert!(align_of::<T::Archived>() <= MAX_ALIGNMENT, "rkyv does not align to that") };
        align_of::<T::Archived>()
    }

    fn validate(bytes: &[u8]) -> Result<(), InvalidPayload> {
        let archive = ArchiveValidator::with_max_depth(bytes, Some(MAX_DEPTH));
        let mut validator = Validator::new(archive, SharedValidator::new());
        access_with_context::<T::Archived, _, Error>(bytes, &mut validator)
            .map(drop)
            .map_err(InvalidPayload::of::<Self>)
    }

    unsafe fn view(bytes: &[u8]) -> &T::Archived {
        // SAFETY: the caller's promise: `validate` accepted these very bytes, or `RkyvBuilder` wrote them,
        // and they are aligned as they were then (blocks start at a multiple of every alignment that
        // `ArchiveType` allows).
        unsafe { rkyv::access_unchecked::<T::Archived>(bytes) }
    }

    unsafe fn builder(block: &mut [u8]) -> RkyvBuilder<'_, T> {
        RkyvBuilder { block, brand: PhantomData }
    }

    fn built_len(built: &RkyvBuilt<'_>) -> usize {
        built.len
    }
}

impl<T> WriteFrom<T> for Rkyv<T>
where
    T: ArchiveType + for<'w, 'a> Serialize<BlockSerializer<'w, 'a>>,
    T::Archived: Portable + for<'a> CheckBytes<HighValidator<'a, Error>> + Send + Sync + 'static,
{
    unsafe fn write_from<'b>(value: &T, block: &'b mut [u8]) -> Result<RkyvBuilt<'b>, BuildError> {
        RkyvBuilder { block, brand: PhantomData }.write(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(rkyv::Archive, rkyv::Serialize, Debug, PartialEq)]
    struct Reading {
        sensor: String,
        values: Vec<f64>,
        notes: Vec<(u32, Option<String>)>,
    }

    // SAFETY: rkyv's own code alone writes the archive; no other type of the tests has this name.
    unsafe impl ArchiveType for Reading {
        const NAME: &'static str = "test.reading";
    }

    fn reading() -> Reading {
        let notes = vec![(1, None), (2, Some("a note that does not fit inline".to_owned()))];
        Reading { sensor: "a sensor with a long name".to_owned(), values: vec![1.5; 20], notes }
    }

    fn write<'b>(value: &Reading, block: &'b mut [u8]) -> Result<RkyvBuilt<'b>, BuildError> {
        // SAFETY: nothing else is built meanwhile.
        unsafe { Rkyv::<Reading>::write_from(value, block) }
    }

    /// A block as the engine gives it.
    #[repr(align(64))]
    struct Block([u8; 1024]);

    #[test]
    fn an_archive_is_read_in_place_and_has_its_exact_length() {
        let mut block = Block([0xff; 1024]);
        let built = write(&reading(), &mut block.0).unwrap();
        let len = Rkyv::<Reading>::built_len(&built);
        let expected = rkyv::to_bytes::<Error>(&reading()).unwrap();
        assert_eq!(block.0[..len], expected[..], "the same bytes as rkyv's own");
        Rkyv::<Reading>::validate(&block.0[..len]).unwrap();
        // SAFETY: validated just above, aligned by its type.
        let view = unsafe { Rkyv::<Reading>::view(&block.0[..len]) };
        assert_eq!(view.sensor, "a sensor with a long name");
        assert_eq!(view.values.len(), 20);
        assert!(std::ptr::from_ref(view).addr() > block.0.as_ptr().addr(), "in the block itself");
    }

    #[test]
    fn a_block_that_is_too_small_is_an_error_and_stays_usable() {
        let mut block = Block([0; 1024]);
        let failed = write(&reading(), &mut block.0[..64]).unwrap_err();
        assert!(matches!(failed, BuildError::TooSmall { available: 64, needed } if needed > 64), "{failed}");
        assert!(write(&reading(), &mut block.0).is_ok());
    }

    #[test]
    fn broken_archives_are_rejected_or_read_as_another_value() {
        let mut block = Block([0; 1024]);
        let built = write(&reading(), &mut block.0).unwrap();
        let len = Rkyv::<Reading>::built_len(&built);
        assert!(Rkyv::<Reading>::validate(&[]).is_err());
        for cut in 0..len {
            let _ = Rkyv::<Reading>::validate(&block.0[..cut]);
        }
        for at in 0..len {
            for bit in 0..8 {
                block.0[at] ^= 1 << bit;
                let _ = Rkyv::<Reading>::validate(&block.0[..len]);
                block.0[at] ^= 1 << bit;
            }
        }
    }

    /// A type that contains itself.
    #[derive(rkyv::Archive, rkyv::Serialize)]
    #[rkyv(
        serialize_bounds(__S: rkyv::ser::Writer, __S::Error: Source),
        bytecheck(bounds(__C: rkyv::validation::ArchiveContext))
    )]
    enum Chain {
        End,
        Link(#[rkyv(omit_bounds)] Box<Chain>),
    }

    // SAFETY: rkyv's own code alone writes the archive; no other type of the tests has this name.
    unsafe impl ArchiveType for Chain {
        const NAME: &'static str = "test.chain";
    }

    /// The archive of a chain: its end, then each link, which points to the one before it.
    fn chain(links: usize) -> rkyv::util::AlignedVec {
        let mut bytes = rkyv::util::AlignedVec::new();
        bytes.extend_from_slice(&[0; 8]);
        for _ in 0..links {
            bytes.extend_from_slice(&[1, 0, 0, 0]);
            // From the pointer to the value before.
            bytes.extend_from_slice(&(-12_i32).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn an_archive_that_is_nested_as_deep_as_it_has_bytes_is_refused() {
        let three = Chain::Link(Box::new(Chain::Link(Box::new(Chain::Link(Box::new(Chain::End))))));
        assert_eq!(rkyv::to_bytes::<Error>(&three).unwrap()[..], chain(3)[..], "such is the layout");
        Rkyv::<Chain>::validate(&chain(500)).unwrap();
        assert!(Rkyv::<Chain>::validate(&chain(600)).is_err());
        assert!(Rkyv::<Chain>::validate(&chain(1_000_000)).is_err());
    }
}
