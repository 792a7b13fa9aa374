//! Checks the pointers that a component passes.
//!
//! Pointers must not be null and must be aligned. Whether they lead to the memory that the contract asks for
//! cannot be checked: native code is trusted that far.

use blockcast_blocks::abi::{self, Text};
use blockcast_blocks::{Overflow, ReaderOptions, Reuse, Schema, SizeClass, Timestamps};
use blockcast_publisher::PublisherOptions;

use blockcast_blocks::abi::Error;

/// Longest name of a topic or a schema, in bytes.
const MAX_NAME: usize = 255;

/// Maximum number of block sizes that a publisher can have besides the first.
const MAX_LARGER: u32 = 64;

/// A place for a result.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Checks that the pointer is not null and is aligned.
    pub(crate) fn new(pointer: *mut T) -> Result<Self, Error> {
        if pointer.is_null() || !pointer.is_aligned() { Err(Error::OutOfBounds) } else { Ok(Self(pointer)) }
    }

    /// Like [`new`](Self::new), but null means that the caller does not want the result.
    pub(crate) fn optional(pointer: *mut T) -> Result<Option<Self>, Error> {
        if pointer.is_null() { Ok(None) } else { Self::new(pointer).map(Some) }
    }

    /// Reads the value that the component has set.
    ///
    /// # Safety
    /// The component passes the pointer for this purpose, and the value is initialised.
    pub(crate) unsafe fn read(&self) -> T
    where
        T: Copy,
    {
        // SAFETY: the pointer is not null and is aligned; the caller guarantees that the value is readable
        // and initialised.
        unsafe { self.0.read() }
    }

    /// Writes the result.
    ///
    /// # Safety
    /// The component passes the pointer for this purpose: it is writable, and nobody else uses it.
    pub(crate) unsafe fn set(self, value: T) {
        // SAFETY: the pointer is not null and is aligned; the caller guarantees that it is writable.
        unsafe { self.0.write(value) };
    }
}

/// Reads a name.
///
/// # Safety
/// The text is null, or valid and unchanged during `'t`.
pub(crate) unsafe fn name<'t>(text: Text) -> Result<&'t str, Error> {
    // SAFETY: the caller guarantees this.
    let bytes = unsafe { text.bytes() }.ok_or(Error::OutOfBounds)?;
    if bytes.len() > MAX_NAME {
        return Err(Error::TooLarge);
    }
    std::str::from_utf8(bytes).map_err(|_| Error::InvalidPayload)
}

/// Reads a name. An empty name counts as none.
///
/// # Safety
/// The same as for [`name`].
unsafe fn own_name(text: Text) -> Result<Option<String>, Error> {
    // SAFETY: the caller guarantees this.
    let name = unsafe { name(text) }?;
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// Reads the topic and the schema of an `open`.
///
/// # Safety
/// The same as for [`name`].
pub(crate) unsafe fn topic<'t>(
    topic: Text,
    schema: Text,
    fingerprint: u64,
) -> Result<(&'t str, Schema), Error> {
    // SAFETY: the caller guarantees this.
    let (topic, schema) = unsafe { (name(topic)?, name(schema)?) };
    if topic.is_empty() {
        return Err(Error::TooLarge);
    }
    Ok((topic, Schema::new(schema.to_owned().into(), fingerprint)))
}

/// Copies options, which begin with their size. If they are shorter than `T`, the rest is 0.
///
/// # Safety
/// `options` is null, or points to as many readable bytes as the number at its start says. All zeros are a
/// valid `T`, and so is every bit pattern that a component can pass.
unsafe fn options<T: Copy>(options: *const T) -> Result<T, Error> {
    if options.is_null() || !options.is_aligned() {
        return Err(Error::OutOfBounds);
    }
    // SAFETY: the pointer is not null and is aligned to a pointer or a number at least as large; the caller
    // guarantees that it is readable.
    let size = unsafe { options.cast::<u32>().read() } as usize;
    if size < size_of::<u32>() {
        return Err(Error::WrongSize);
    }
    let mut copy = std::mem::MaybeUninit::<T>::zeroed();
    let bytes = size.min(size_of::<T>());
    // SAFETY: the caller guarantees that this many bytes are readable; the copy has at least as many bytes
    // and does not overlap.
    unsafe { options.cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr().cast(), bytes) };
    // SAFETY: all bytes have been set, to a pattern that the caller guarantees to be valid.
    Ok(unsafe { copy.assume_init() })
}

/// Reads the options of a subscription, and the name it has in statistics.
///
/// # Safety
/// `given` is null or points to options of the size they state, in which `name` is a valid text.
pub(crate) unsafe fn reader_options(
    given: *const abi::SubscriptionOptions,
) -> Result<(ReaderOptions, Option<String>), Error> {
    // SAFETY: the caller guarantees this; numbers can have any value.
    let given = unsafe { options(given) }?;
    let overflow = Overflow::from_abi_code(given.overflow).ok_or(Error::WrongSize)?;
    let depth = (given.depth != 0).then_some(given.depth);
    // SAFETY: the caller guarantees that the text is valid.
    let name = unsafe { own_name(given.name) }?;
    Ok((
        ReaderOptions {
            overflow,
            depth,
            history: u64::from(given.history),
            samples: Some(u32::MAX),
            maps: false,
            skip_relays: false,
        },
        name,
    ))
}

/// Reads the options of a publisher, and the name it has in statistics.
///
/// # Safety
/// `given` is null or points to options of the size they state, in which `larger` points to as many classes
/// as they state and `name` is a valid text.
pub(crate) unsafe fn publisher_options(
    given: *const abi::PublisherOptions,
) -> Result<(PublisherOptions, Option<String>), Error> {
    // SAFETY: the caller guarantees this; numbers and pointers can have any value.
    let given = unsafe { options(given) }?;
    let mut options = PublisherOptions::new()
        .block_size(given.block_size as usize)
        .blocks(given.blocks)
        .history(given.history)
        .prefault(given.prefault != 0);
    if given.max_blocks != 0 {
        options = options.max_blocks(given.max_blocks);
    }
    if given.max_subscribers != 0 {
        options = options.max_subscribers(given.max_subscribers);
    }
    options = options.timestamps(Timestamps::from_abi_code(given.timestamps).ok_or(Error::WrongSize)?);
    options = options.reuse(Reuse::from_abi_code(given.reuse).ok_or(Error::WrongSize)?);
    if given.larger_count > MAX_LARGER {
        return Err(Error::WrongSize);
    }
    if given.larger_count > 0 {
        if given.larger.is_null() || !given.larger.is_aligned() {
            return Err(Error::OutOfBounds);
        }
        // SAFETY: the pointer is not null and is aligned; the caller guarantees that that many classes are
        // readable.
        let larger = unsafe { std::slice::from_raw_parts(given.larger, given.larger_count as usize) };
        for class in larger {
            let abi::SizeClass { block_size, blocks, max_blocks } = *class;
            options =
                options.larger_blocks(SizeClass { block_size: block_size as usize, blocks, max_blocks });
        }
    }
    // SAFETY: the caller guarantees that the text is valid.
    let name = unsafe { own_name(given.name) }?;
    Ok((options, name))
}
