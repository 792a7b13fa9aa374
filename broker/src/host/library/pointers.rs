//! What a component passes by pointer, looked at before it is believed.
//!
//! Whether a pointer that is not null and aligned leads to the memory that the contract asks for cannot be found out: native
//! code is trusted that far.

use blockcast_blocks::abi::{self, Text};
use blockcast_blocks::{Overflow, ReaderOptions, Reuse, Schema, SizeClass, Timestamps};
use blockcast_publisher::PublisherOptions;

use blockcast_blocks::abi::Error;

/// Longest name of a topic or a schema, in bytes.
const MAX_NAME: usize = 255;

/// Most sizes of blocks that a publisher can have beside the first.
const MAX_LARGER: u32 = 64;

/// Where an answer goes.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Not null, and aligned.
    pub(crate) fn new(pointer: *mut T) -> Result<Self, Error> {
        if pointer.is_null() || !pointer.is_aligned() { Err(Error::OutOfBounds) } else { Ok(Self(pointer)) }
    }

    /// Where nobody may want the answer.
    pub(crate) fn optional(pointer: *mut T) -> Result<Option<Self>, Error> {
        if pointer.is_null() { Ok(None) } else { Self::new(pointer).map(Some) }
    }

    /// What is there, which the component has set.
    ///
    /// # Safety
    /// The pointer is the component's for this purpose, and what is there was initialised.
    pub(crate) unsafe fn read(&self) -> T
    where
        T: Copy,
    {
        // SAFETY: not null and aligned; readable and initialised as the caller promises.
        unsafe { self.0.read() }
    }

    /// Gives the answer.
    ///
    /// # Safety
    /// The pointer is the component's for this purpose: it is writable, and nobody else uses it.
    pub(crate) unsafe fn set(self, value: T) {
        // SAFETY: not null and aligned; writable as the caller promises.
        unsafe { self.0.write(value) };
    }
}

/// A text that names something.
///
/// # Safety
/// The view is valid and does not change during `'t`, if it is not null.
pub(crate) unsafe fn name<'t>(text: Text) -> Result<&'t str, Error> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { text.bytes() }.ok_or(Error::OutOfBounds)?;
    if bytes.len() > MAX_NAME {
        return Err(Error::TooLarge);
    }
    std::str::from_utf8(bytes).map_err(|_| Error::InvalidPayload)
}

/// A name that may be empty, which is none.
///
/// # Safety
/// As for [`name`].
unsafe fn own_name(text: Text) -> Result<Option<String>, Error> {
    // SAFETY: the caller's promise.
    let name = unsafe { name(text) }?;
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// Topic and schema of an `open`.
///
/// # Safety
/// As for [`name`].
pub(crate) unsafe fn topic<'t>(
    topic: Text,
    schema: Text,
    fingerprint: u64,
) -> Result<(&'t str, Schema), Error> {
    // SAFETY: the caller's promise.
    let (topic, schema) = unsafe { (name(topic)?, name(schema)?) };
    if topic.is_empty() {
        return Err(Error::TooLarge);
    }
    Ok((topic, Schema::new(schema.to_owned().into(), fingerprint)))
}

/// Options, which begin with their size: as many bytes of them as there are, the rest 0.
///
/// # Safety
/// `options` is null or points to as many readable bytes as the number says with which they begin. All bits being 0 is a
/// valid `T`, and so is every pattern that a component can pass.
unsafe fn options<T: Copy>(options: *const T) -> Result<T, Error> {
    if options.is_null() || !options.is_aligned() {
        return Err(Error::OutOfBounds);
    }
    // SAFETY: not null, aligned to a pointer or a number at least as large, and readable as the caller promises.
    let size = unsafe { options.cast::<u32>().read() } as usize;
    if size < size_of::<u32>() {
        return Err(Error::WrongSize);
    }
    let mut copy = std::mem::MaybeUninit::<T>::zeroed();
    let bytes = size.min(size_of::<T>());
    // SAFETY: readable as the caller promises; the copy has as many bytes, and is another place.
    unsafe { options.cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr().cast(), bytes) };
    // SAFETY: all bytes were set, to what the caller says is valid.
    Ok(unsafe { copy.assume_init() })
}

/// How a component wants to subscribe, and what it wants to be called.
///
/// # Safety
/// `given` is null or leads to options, as their size says, in which `name` is a valid view.
pub(crate) unsafe fn reader_options(
    given: *const abi::SubscriptionOptions,
) -> Result<(ReaderOptions, Option<String>), Error> {
    // SAFETY: the caller's promise; numbers can have any value.
    let given = unsafe { options(given) }?;
    let overflow = match given.overflow {
        abi::OVERFLOW_BLOCK => Overflow::Block,
        abi::OVERFLOW_DROP_OLDEST => Overflow::DropOldest,
        abi::OVERFLOW_DROP_NEWEST => Overflow::DropNewest,
        _ => return Err(Error::WrongSize),
    };
    let depth = (given.depth != 0).then_some(given.depth);
    // SAFETY: a valid view, as the caller promises.
    let name = unsafe { own_name(given.name) }?;
    Ok((
        ReaderOptions {
            overflow,
            depth,
            history: u64::from(given.history),
            samples: Some(u32::MAX),
            maps: false,
        },
        name,
    ))
}

/// How a component wants to publish, and what it wants to be called.
///
/// # Safety
/// `given` is null or leads to options, as their size says, in which `larger` leads to as many classes as they say and `name` is
/// a valid view.
pub(crate) unsafe fn publisher_options(
    given: *const abi::PublisherOptions,
) -> Result<(PublisherOptions, Option<String>), Error> {
    // SAFETY: the caller's promise; numbers and pointers can have any value.
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
    options = options.timestamps(match given.timestamps {
        abi::TIMESTAMPS_COARSE => Timestamps::Coarse,
        abi::TIMESTAMPS_OFF => Timestamps::Off,
        abi::TIMESTAMPS_PRECISE => Timestamps::Precise,
        _ => return Err(Error::WrongSize),
    });
    options = options.reuse(match given.reuse {
        abi::REUSE_BY_SIZE => Reuse::BySize,
        abi::REUSE_OLDEST => Reuse::Oldest,
        abi::REUSE_HOTTEST => Reuse::Hottest,
        _ => return Err(Error::WrongSize),
    });
    if given.larger_count > MAX_LARGER {
        return Err(Error::WrongSize);
    }
    if given.larger_count > 0 {
        if given.larger.is_null() || !given.larger.is_aligned() {
            return Err(Error::OutOfBounds);
        }
        // SAFETY: not null and aligned; so many are readable as the caller promises.
        let larger = unsafe { std::slice::from_raw_parts(given.larger, given.larger_count as usize) };
        for class in larger {
            let abi::SizeClass { block_size, blocks, max_blocks } = *class;
            options =
                options.larger_blocks(SizeClass { block_size: block_size as usize, blocks, max_blocks });
        }
    }
    // SAFETY: a valid view, as the caller promises.
    let name = unsafe { own_name(given.name) }?;
    Ok((options, name))
}
