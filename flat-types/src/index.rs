//! The width of indices: the two numbers in the header of a string or list.

use std::fmt;

/// An index width, as a value for constant functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// One byte, without alignment. For messages of up to a few hundred bytes.
    U8,
    /// Two bytes, without alignment.
    U16,
    /// Four bytes. Every header and every list of numbers is naturally aligned.
    U32,
}

impl Width {
    /// The size of an index in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Width::U8 => 1,
            Width::U16 => 2,
            Width::U32 => 4,
        }
    }

    /// Whether headers and lists are naturally aligned at this width.
    pub const fn aligned(self) -> bool {
        matches!(self, Width::U32)
    }

    /// The name in schema texts: `u8`, `u16` or `u32`.
    pub const fn name(self) -> &'static str {
        match self {
            Width::U8 => "u8",
            Width::U16 => "u16",
            Width::U32 => "u32",
        }
    }
}

// Every index fits into a `usize`, and the sum of two fits into a `u64`.
const _: () = assert!(usize::BITS >= 32);

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
}

/// An unsigned integer type that stores deltas, lengths and counts: `u8`, `u16` or `u32`.
pub trait Index: sealed::Sealed + Copy + fmt::Debug + Default + Send + Sync + 'static {
    /// The width as a value.
    const WIDTH: Width;
    /// The size of an index in bytes.
    const BYTES: usize = Self::WIDTH.bytes();
    /// The largest delta, length or count.
    const MAX: usize;

    /// Reads the index at the start of `bytes`, or 0 if `bytes` is too short.
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> usize;

    /// Reads the two indices of a header at the start of `bytes`, or zeros if `bytes` is too short.
    #[doc(hidden)]
    fn read_pair(bytes: &[u8]) -> (usize, usize);

    /// Writes the two indices of a header to the start of `bytes`, which the caller has checked to be long
    /// enough. Returns a number that does not fit as the error, and writes nothing.
    #[doc(hidden)]
    fn write_pair(delta: usize, count: usize, bytes: &mut [u8]) -> Result<(), usize>;
}

macro_rules! index {
    ($type:ty, $width:expr) => {
        impl Index for $type {
            const WIDTH: Width = $width;
            const MAX: usize = <$type>::MAX as usize;

            #[inline]
            fn read(bytes: &[u8]) -> usize {
                match bytes.first_chunk() {
                    Some(chunk) => <$type>::from_le_bytes(*chunk) as usize,
                    None => 0,
                }
            }

            #[inline]
            fn read_pair(bytes: &[u8]) -> (usize, usize) {
                const N: usize = size_of::<$type>();
                match bytes.first_chunk::<{ 2 * N }>() {
                    Some(pair) => (Self::read(&pair[..N]), Self::read(&pair[N..])),
                    None => (0, 0),
                }
            }

            #[inline]
            fn write_pair(delta: usize, count: usize, bytes: &mut [u8]) -> Result<(), usize> {
                const N: usize = size_of::<$type>();
                let small_delta = <$type>::try_from(delta).map_err(|_| delta)?;
                let small_count = <$type>::try_from(count).map_err(|_| count)?;
                if let Some(pair) = bytes.first_chunk_mut::<{ 2 * N }>() {
                    pair[..N].copy_from_slice(&small_delta.to_le_bytes());
                    pair[N..].copy_from_slice(&small_count.to_le_bytes());
                }
                Ok(())
            }
        }
    };
}

index!(u8, Width::U8);
index!(u16, Width::U16);
index!(u32, Width::U32);
