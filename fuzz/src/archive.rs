//! Types and checks for messages that are rkyv archives.

use std::alloc::{self, Layout};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use arbitrary::Arbitrary;
use blockcast_blocks::{ArchiveType, BLOCK_ALIGNMENT, BuildError, Payload, Rkyv, WriteFrom};

use crate::Sink;

/// A record with a field of every kind that an archive can point to.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Arbitrary, Debug, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Archived {
    pub flag: bool,
    pub letter: char,
    pub text: String,
    pub texts: Vec<String>,
    pub numbers: Vec<u64>,
    pub lists: Vec<Vec<Option<u16>>>,
    pub maybe: Option<Box<(u8, i64)>>,
    pub outcome: Result<u8, String>,
    pub tree: BTreeMap<String, Vec<u16>>,
    pub table: HashMap<u16, String>,
    pub shared: Rc<String>,
    pub shape: Form,
    pub nested: Nested,
}

/// A variant with every form of payload.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Arbitrary, Debug, PartialEq)]
#[rkyv(derive(Debug))]
pub enum Form {
    Nothing,
    Circle(i64),
    Pair(u8, String),
    Named { name: String, corners: Vec<u32> },
}

/// A type that contains itself.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Arbitrary, Debug, PartialEq)]
#[rkyv(
    derive(Debug),
    serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: rkyv::rancor::Source),
    deserialize_bounds(__D::Error: rkyv::rancor::Source),
    bytecheck(bounds(__C: rkyv::validation::ArchiveContext))
)]
pub enum Nested {
    End(u8),
    More(#[rkyv(omit_bounds)] Box<Nested>),
    Both(#[rkyv(omit_bounds)] Vec<Nested>),
}

// SAFETY: only rkyv's own code writes the archive, and no other type here has this name.
unsafe impl ArchiveType for Archived {
    const NAME: &'static str = "fuzz.archived";
}

// SAFETY: only rkyv's own code writes the archive, and no other type here has this name.
unsafe impl ArchiveType for Form {
    const NAME: &'static str = "fuzz.form";
}

// SAFETY: only rkyv's own code writes the archive, and no other type here has this name.
unsafe impl ArchiveType for Nested {
    const NAME: &'static str = "fuzz.nested";
}

// SAFETY: only rkyv's own code writes the archive, and no other type here has this name.
unsafe impl ArchiveType for Texts {
    const NAME: &'static str = "fuzz.texts";
}

/// A list of strings.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Arbitrary, Debug, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Texts(pub Vec<String>);

/// Memory with the alignment of a block and the exact length of the message, so that the address sanitizer
/// detects reads past its end.
pub struct Exact {
    start: NonNull<u8>,
    len: usize,
}

impl Exact {
    /// Allocates `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let start = if len == 0 {
            NonNull::without_provenance(BLOCK_ALIGNMENT.try_into().expect("not zero"))
        } else {
            // SAFETY: the size is not zero.
            NonNull::new(unsafe { alloc::alloc_zeroed(Self::layout(len)) }).expect("there is memory")
        };
        Self { start, len }
    }

    /// Copies `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK_ALIGNMENT).expect("inputs are small")
    }
}

impl Drop for Exact {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: `zeroed` allocated the memory with this layout.
            unsafe { alloc::dealloc(self.start.as_ptr(), Self::layout(self.len)) }
        }
    }
}

impl Deref for Exact {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `self` owns `len` initialized bytes from `start`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Exact {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `self` owns `len` initialized bytes from `start`, and is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// A type whose archives can be written, validated, read and printed.
pub trait Type: ArchiveType + Sized + PartialEq
where
    Rkyv<Self>: WriteFrom<Self>,
{
    /// Reads all of an archive: prints it and deserializes it.
    fn read(archived: <Rkyv<Self> as Payload>::View<'_>) -> Self;
}

macro_rules! types {
    ($($type:ty),+) => { $(
        impl Type for $type {
            fn read(archived: &<$type as rkyv::Archive>::Archived) -> Self {
                write!(Sink, "{archived:?}").expect("the sink takes everything");
                rkyv::deserialize::<Self, rkyv::rancor::Error>(archived).expect("deserializing cannot fail")
            }
        }
    )+ };
}
types!(Archived, Form, Nested, Texts);

/// Validates bytes and reads all of them, as a subscriber does. Returns `None` if they are invalid.
pub fn access<T: Type>(bytes: &[u8]) -> Option<T>
where
    Rkyv<T>: WriteFrom<T>,
{
    let message = Exact::copy_of(bytes);
    <Rkyv<T> as Payload>::validate(&message).ok()?;
    // SAFETY: the line above has validated the bytes, and they are aligned like a block.
    Some(T::read(unsafe { <Rkyv<T> as Payload>::view(&message) }))
}

/// Writes a value to the start of a block, as a publisher does, and returns the length in bytes.
pub fn write<T: Type>(value: &T, block: &mut [u8]) -> Result<usize, BuildError>
where
    Rkyv<T>: WriteFrom<T>,
{
    // SAFETY: there is no other build at the same time.
    let built = unsafe { Rkyv::<T>::write_from(value, block) }?;
    Ok(Rkyv::<T>::built_len(&built))
}
