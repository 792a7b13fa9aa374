//! Whether two tables fit. They are read with care, before anything in them is trusted.

use std::mem::{MaybeUninit, offset_of};
use std::ops::Range;

use super::VERSION;
use super::app::App;
use super::host::Host;
use super::values::Text;

/// Why a table cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// There is no table.
    #[error("it has no table of functions")]
    Missing,
    /// It is not aligned, so it is not a table.
    #[error("its table of functions is not aligned")]
    Unaligned,
    /// The other side was built for another version: rebuild it.
    #[error(
        "it has version {theirs} of the interface, and this is version {ours}: build both for the same version"
    )]
    Version {
        /// The table's version.
        theirs: u32,
        /// The reader's version.
        ours: u32,
    },
    /// The other side was built with an earlier Blockcast and lacks functions that are needed: rebuild it.
    #[error("its table of functions has {theirs} bytes, but {needed} are needed")]
    Size {
        /// Bytes that the table has.
        theirs: u32,
        /// Bytes that it must have.
        needed: u32,
    },
    /// A pointer that must be set is null.
    #[error("pointer {0} of its table of functions is null")]
    Null(usize),
}

/// The start of both tables.
#[repr(C)]
struct Head {
    version: u32,
    size: u32,
}

/// Offset of the next field, which is a pointer in both.
const POINTERS: usize = size_of::<Head>();

const _: () = assert!(offset_of!(Host, context) == POINTERS && offset_of!(App, run) == POINTERS);

impl Host {
    /// The size of the table's first edition, which every host of this version has.
    pub const MINIMUM: usize = offset_of!(Self, publisher_direct);

    /// Reads the table of a host.
    ///
    /// # Errors
    /// [`Misfit`].
    ///
    /// # Safety
    /// `table` is null, or points to something readable of at least 8 bytes, which if they are the head of a
    /// table are followed by the rest of it, none of which changes meanwhile.
    pub unsafe fn read(table: *const Self) -> Result<Self, Misfit> {
        // SAFETY: as the caller promises.
        let copy = unsafe { copy(table, Self::MINIMUM, offset_of!(Self, parameter)..Self::MINIMUM) }?;
        // SAFETY: all bytes were copied from a table of this version, are those of a function that was
        // checked not to be null, or 0, which stands for a function that is not there.
        Ok(unsafe { copy.assume_init() })
    }
}

impl App {
    /// The size of the table's first edition, which every library of this version has.
    pub const MINIMUM: usize = offset_of!(Self, name) + size_of::<Text>();

    /// Reads the table of a library.
    ///
    /// # Errors
    /// [`Misfit`].
    ///
    /// # Safety
    /// The same as for [`Host::read`].
    pub unsafe fn read(table: *const Self) -> Result<Self, Misfit> {
        // SAFETY: as the caller promises.
        let copy = unsafe { copy(table, Self::MINIMUM, POINTERS..offset_of!(Self, name)) }?;
        // SAFETY: as in `Host::read`; the name is two numbers.
        Ok(unsafe { copy.assume_init() })
    }
}

/// Copies the part of a table that both sides know. Fields beyond `minimum` that the other side lacks are 0:
/// functions that were added later are `Option`s.
///
/// # Safety
/// The same as for [`Host::read`].
unsafe fn copy<T>(
    table: *const T,
    minimum: usize,
    functions: Range<usize>,
) -> Result<MaybeUninit<T>, Misfit> {
    if table.is_null() {
        return Err(Misfit::Missing);
    }
    if !table.is_aligned() {
        return Err(Misfit::Unaligned);
    }
    // SAFETY: not null, aligned, and readable as the caller promises.
    let Head { version, size } = unsafe { table.cast::<Head>().read() };
    if version != VERSION {
        return Err(Misfit::Version { theirs: version, ours: VERSION });
    }
    let bytes = (size as usize).min(size_of::<T>());
    if bytes < minimum {
        return Err(Misfit::Size { theirs: size, needed: minimum as u32 });
    }
    // SAFETY: the table has that many bytes, as its head says and the caller vouches for.
    let words = unsafe { std::slice::from_raw_parts(table.cast::<usize>(), bytes / size_of::<usize>()) };
    let word = size_of::<usize>();
    let null = (functions.start / word..functions.end / word).find(|at| words[*at] == 0);
    if let Some(at) = null {
        return Err(Misfit::Null(at - POINTERS / word));
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: both are that long, and one of them was made just now.
    unsafe { std::ptr::copy_nonoverlapping(table.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), bytes) };
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: usize = size_of::<Host>() / size_of::<usize>();

    /// A table whose pointers are not null, longer than the one that is known.
    fn words(version: u32, size: usize) -> [usize; WORDS + 8] {
        let mut words = [1; WORDS + 8];
        words[0] = version as usize | size << 32;
        words
    }

    fn read(words: &[usize]) -> Result<Host, Misfit> {
        // SAFETY: the words are as many as their head says, or end with the head.
        unsafe { Host::read(words.as_ptr().cast()) }
    }

    #[test]
    fn a_table_that_has_grown_fits() {
        let host = read(&words(VERSION, size_of::<Host>() + 64)).expect("it fits");
        assert_eq!(host.size as usize, size_of::<Host>() + 64);
        assert_eq!(read(&words(VERSION, size_of::<Host>())).map(|host| host.version), Ok(VERSION));
    }

    #[test]
    fn a_table_of_the_first_edition_fits_and_lacks_what_was_added() {
        let host = read(&words(VERSION, Host::MINIMUM)).expect("it fits");
        assert!(host.publisher_direct.is_none() && host.publisher_publish_taken.is_none());
        let host = read(&words(VERSION, size_of::<Host>())).expect("it fits");
        assert!(host.publisher_direct.is_some() && host.publisher_publish_taken.is_some());
    }

    #[test]
    fn a_table_of_another_version_is_refused_after_its_head() {
        let head = [u64::from(VERSION + 1) as usize | 1 << 40];
        assert_eq!(read(&head).err(), Some(Misfit::Version { theirs: VERSION + 1, ours: VERSION }));
    }

    #[test]
    fn a_table_that_is_too_short_is_refused_after_its_head() {
        let head = [VERSION as usize | 8 << 32];
        let needed = Host::MINIMUM as u32;
        assert_eq!(read(&head).err(), Some(Misfit::Size { theirs: 8, needed }));
    }

    #[test]
    fn a_function_that_is_null_is_named_by_its_place() {
        let mut words = words(VERSION, size_of::<Host>());
        words[1] = 0; // the context may be null
        assert!(read(&words).is_ok());
        words[WORDS - 1] = 0;
        assert!(read(&words).is_ok(), "one that was added later");
        let last = Host::MINIMUM / size_of::<usize>() - 1;
        words[last] = 0;
        assert_eq!(read(&words).err(), Some(Misfit::Null(last - 1)));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        // SAFETY: null, and a pointer that is not looked at as it is not aligned.
        let (null, odd) =
            unsafe { (Host::read(std::ptr::null()), App::read(std::ptr::dangling::<u8>().cast())) };
        assert_eq!((null.err(), odd.err()), (Some(Misfit::Missing), Some(Misfit::Unaligned)));
    }

    #[test]
    fn an_app_without_a_name_fits_and_one_without_run_does_not() {
        let table = [VERSION as usize | App::MINIMUM << 32, 1, 0, 0];
        // SAFETY: the words are as many as their head says.
        let app = unsafe { App::read(table.as_ptr().cast()) };
        assert_eq!(app.map(|app| app.name.size), Ok(0));
        let table = [table[0], 0, 0, 0];
        // SAFETY: as above.
        let app = unsafe { App::read(table.as_ptr().cast()) };
        assert_eq!(app.err(), Some(Misfit::Null(0)));
    }
}
