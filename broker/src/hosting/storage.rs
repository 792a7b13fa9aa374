//! The rules of memory blocks: who may be attached to which part of a storage, and what happens to its
//! content.
//!
//! Nothing here knows where the bytes are; see the table in `wit/memory-blocks.wit`.

use std::ops::BitOr;

use blockcast_blocks::abi::{self, Error};
use slab::Slab;

/// The longest chain of parts of parts.
const MAX_DEPTH: usize = 16;

/// The access that an attachment asks for, or that a part allows: a set of `ACCESS_...`. The empty set means
/// exclusive reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access(u32);

impl Access {
    /// Writing instead of reading.
    pub(crate) const WRITE: Self = Self(abi::ACCESS_WRITE);
    /// Reading together with others, or writing content that many may then read.
    pub(crate) const SHARED: Self = Self(abi::ACCESS_SHARED);

    /// The set of these bits. Unknown bits are ignored.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits & (abi::ACCESS_WRITE | abi::ACCESS_SHARED))
    }

    /// Whether everything in `other` is in this set.
    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Access {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How a handle is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Writes. If `shared`, many may then read the content.
    Write { shared: bool },
    /// Reads exclusively.
    Read,
    /// Reads, together with others.
    ReadShared,
}

impl Mode {
    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

impl From<Access> for Mode {
    fn from(access: Access) -> Self {
        match (access.contains(Access::WRITE), access.contains(Access::SHARED)) {
            (true, shared) => Self::Write { shared },
            (false, true) => Self::ReadShared,
            (false, false) => Self::Read,
        }
    }
}

/// Content that was written and not consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    start: u32,
    end: u32,
    /// Whether many may read it.
    shared: bool,
}

/// A range of a storage, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Range {
    fn overlaps(self, other: Self) -> bool {
        let end = |range: Self| u64::from(range.start) + u64::from(range.len);
        u64::from(self.start) < end(other) && u64::from(other.start) < end(self)
    }
}

/// A storage, or a part of it. Handles name parts.
#[derive(Debug)]
struct Part {
    /// Never given to another part.
    serial: u64,
    /// The serials of the parts that contain it.
    made_of: Vec<u64>,
    range: Range,
    rights: Access,
    content: Option<Content>,
    /// Set while it is attached for writing, or for exclusive reading.
    exclusive: Option<Mode>,
    readers: u32,
    handles: u32,
}

impl Part {
    fn is_attached(&self) -> bool {
        self.exclusive.is_some() || self.readers > 0
    }

    fn is_written(&self) -> bool {
        self.exclusive.is_some_and(Mode::is_write)
    }

    /// Whether one of the parts contains the other.
    fn is_kin_of(&self, other: &Self) -> bool {
        self.made_of.contains(&other.serial) || other.made_of.contains(&self.serial)
    }
}

/// The number of a part within its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartKey(usize);

/// The parts of one storage. The first one is the whole storage.
#[derive(Debug)]
pub(crate) struct Parts {
    parts: Slab<Part>,
    next_serial: u64,
    size: u32,
}

impl Parts {
    /// A storage of `size` bytes with one handle on all of it. With `content`, all of it can be read by many.
    pub(crate) fn new(size: u32, content: bool) -> (Self, PartKey) {
        let mut parts = Self { parts: Slab::new(), next_serial: 0, size };
        let range = parts.whole();
        let content = (content && size > 0).then_some(Content { start: 0, end: size, shared: true });
        let whole = parts.insert(Vec::new(), range, Access::WRITE | Access::SHARED, content);
        (parts, whole)
    }

    fn insert(
        &mut self,
        made_of: Vec<u64>,
        range: Range,
        rights: Access,
        content: Option<Content>,
    ) -> PartKey {
        let serial = self.next_serial;
        self.next_serial += 1;
        let part = Part { serial, made_of, range, rights, content, exclusive: None, readers: 0, handles: 1 };
        PartKey(self.parts.insert(part))
    }

    /// Whether the part is the whole storage.
    pub(crate) fn is_whole(&self, key: PartKey) -> bool {
        self.parts[key.0].made_of.is_empty()
    }

    /// The range of the whole storage.
    pub(crate) fn whole(&self) -> Range {
        Range { start: 0, len: self.size }
    }

    /// The part's range in the storage.
    pub(crate) fn range(&self, key: PartKey) -> Range {
        self.parts[key.0].range
    }

    /// Whether anybody is attached for writing.
    pub(crate) fn are_written(&self) -> bool {
        self.parts.iter().any(|(_, part)| part.is_written())
    }

    /// Bytes of the content, if none of it has been consumed; else 0.
    pub(crate) fn complete_content(&self, key: PartKey) -> u32 {
        match self.parts[key.0].content {
            Some(Content { start: 0, end, .. }) => end,
            _ => 0,
        }
    }

    /// The range of the storage that an attachment would show.
    pub(crate) fn check(&self, key: PartKey, access: Access) -> Result<Range, Error> {
        let part = &self.parts[key.0];
        if !part.rights.contains(access) {
            return Err(Error::Denied);
        }
        let mode = Mode::from(access);
        let alone = mode != Mode::ReadShared;
        if part.exclusive.is_some() || (alone && part.readers > 0) {
            return Err(Error::Busy);
        }
        let conflict = |other: &Part| {
            other.is_attached()
                && (mode.is_write() || other.is_written())
                && other.range.overlaps(part.range)
                && other.serial != part.serial
                && !other.is_kin_of(part)
        };
        if self.parts.iter().any(|(_, other)| conflict(other)) {
            return Err(Error::Busy);
        }
        match (mode, part.content) {
            (Mode::Write { .. }, None | Some(Content { shared: true, .. })) => Ok(part.range),
            (Mode::Read, Some(content))
            | (Mode::ReadShared, Some(content @ Content { shared: true, .. })) => {
                Ok(Range { start: part.range.start + content.start, len: content.end - content.start })
            }
            _ => Err(Error::Busy),
        }
    }

    /// Attaches a part, after [`check`](Self::check) has allowed it.
    pub(crate) fn attach(&mut self, key: PartKey, mode: Mode) {
        let part = &mut self.parts[key.0];
        match mode {
            Mode::Write { .. } => (part.content, part.exclusive) = (None, Some(mode)),
            Mode::Read => part.exclusive = Some(mode),
            Mode::ReadShared => part.readers += 1,
        }
    }

    /// Detaches a part. Refused if more bytes are written or consumed than are attached.
    pub(crate) fn detach(&mut self, key: PartKey, mode: Mode, consumed: u32) -> Result<(), Error> {
        let part = &mut self.parts[key.0];
        match mode {
            Mode::Write { shared } => {
                if consumed > part.range.len {
                    return Err(Error::WrongSize);
                }
                part.content = (consumed > 0).then_some(Content { start: 0, end: consumed, shared });
                part.exclusive = None;
            }
            Mode::Read => {
                let left = part.content.map_or(0, |content| content.end - content.start);
                if consumed > left {
                    return Err(Error::WrongSize);
                }
                part.content = part.content.filter(|_| consumed < left);
                if let Some(content) = &mut part.content {
                    content.start += consumed;
                }
                part.exclusive = None;
            }
            Mode::ReadShared => {
                if consumed > 0 {
                    return Err(Error::WrongSize);
                }
                part.readers -= 1;
            }
        }
        Ok(())
    }

    /// Creates a part of a part, with one handle.
    pub(crate) fn divide(
        &mut self,
        key: PartKey,
        start: u32,
        size: u32,
        rights: Access,
    ) -> Result<PartKey, Error> {
        let part = &self.parts[key.0];
        if size == 0 {
            return Err(Error::WrongSize);
        }
        if start.checked_add(size).is_none_or(|end| end > part.range.len) {
            return Err(Error::OutOfBounds);
        }
        if !part.rights.contains(rights) {
            return Err(Error::Denied);
        }
        if part.made_of.len() >= MAX_DEPTH {
            return Err(Error::Limit);
        }
        let mut made_of = part.made_of.clone();
        made_of.push(part.serial);
        // Inside the part, whose range has 32 bits.
        let range = Range { start: part.range.start + start, len: size };
        let shared = rights.contains(Access::SHARED);
        let filled = !rights.contains(Access::WRITE);
        let content = filled.then_some(Content { start: 0, end: size, shared });
        Ok(self.insert(made_of, range, rights, content))
    }

    /// Counts one more handle on the part.
    pub(crate) fn add_handle(&mut self, key: PartKey) {
        self.parts[key.0].handles += 1;
    }

    /// Counts one handle less. Returns `true` if it was the last one of the storage.
    pub(crate) fn drop_handle(&mut self, key: PartKey) -> bool {
        let part = &mut self.parts[key.0];
        part.handles -= 1;
        if part.handles == 0 {
            self.parts.remove(key.0);
        }
        self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Access = Access::WRITE;
    const SHARED: Access = Access::SHARED;

    fn none() -> Access {
        Access::default()
    }

    fn attach(parts: &mut Parts, key: PartKey, access: Access) -> Result<Range, Error> {
        let range = parts.check(key, access)?;
        parts.attach(key, access.into());
        Ok(range)
    }

    fn written(parts: &mut Parts, key: PartKey, access: Access, len: u32) {
        attach(parts, key, access).expect("room to write");
        parts.detach(key, access.into(), len).expect("fits");
    }

    #[test]
    fn one_writer_then_one_reader_then_nothing() {
        let (mut parts, whole) = Parts::new(100, false);
        assert_eq!(attach(&mut parts, whole, none()), Err(Error::Busy), "no content");
        assert_eq!(attach(&mut parts, whole, WRITE), Ok(Range { start: 0, len: 100 }));
        assert_eq!(attach(&mut parts, whole, WRITE), Err(Error::Busy));
        assert_eq!(attach(&mut parts, whole, SHARED), Err(Error::Busy));
        assert_eq!(parts.detach(whole, WRITE.into(), 101), Err(Error::WrongSize));
        assert_eq!(parts.detach(whole, WRITE.into(), 60), Ok(()));
        assert_eq!(attach(&mut parts, whole, WRITE), Err(Error::Busy), "unread content");
        assert_eq!(attach(&mut parts, whole, SHARED), Err(Error::Busy), "not written to be shared");
        assert_eq!(attach(&mut parts, whole, none()), Ok(Range { start: 0, len: 60 }));
        assert_eq!(parts.detach(whole, Mode::Read, 61), Err(Error::WrongSize));
        assert_eq!(parts.detach(whole, Mode::Read, 20), Ok(()));
        assert_eq!(attach(&mut parts, whole, none()), Ok(Range { start: 20, len: 40 }));
        assert_eq!(parts.detach(whole, Mode::Read, 40), Ok(()));
        assert_eq!(attach(&mut parts, whole, none()), Err(Error::Busy), "all is consumed");
        assert!(attach(&mut parts, whole, WRITE).is_ok());
    }

    #[test]
    fn shared_content_has_many_readers_and_the_next_writer_waits() {
        let (mut parts, whole) = Parts::new(100, false);
        written(&mut parts, whole, WRITE | SHARED, 10);
        for _ in 0..3 {
            assert_eq!(attach(&mut parts, whole, SHARED), Ok(Range { start: 0, len: 10 }));
        }
        assert_eq!(attach(&mut parts, whole, WRITE), Err(Error::Busy));
        assert_eq!(attach(&mut parts, whole, none()), Err(Error::Busy));
        assert_eq!(parts.detach(whole, Mode::ReadShared, 1), Err(Error::WrongSize));
        for _ in 0..3 {
            assert_eq!(parts.detach(whole, Mode::ReadShared, 0), Ok(()));
        }
        assert!(attach(&mut parts, whole, WRITE | SHARED).is_ok());
        assert_eq!(parts.detach(whole, Mode::Write { shared: true }, 0), Ok(()));
        assert_eq!(attach(&mut parts, whole, SHARED), Err(Error::Busy), "nothing was written");
    }

    #[test]
    fn parts_conflict_with_neighbours_but_not_with_their_whole() {
        let (mut parts, whole) = Parts::new(100, false);
        assert!(attach(&mut parts, whole, WRITE).is_ok());
        let first = parts.divide(whole, 0, 50, SHARED).expect("a part");
        let second = parts.divide(whole, 40, 60, WRITE).expect("a part");
        let inner = parts.divide(first, 45, 5, SHARED).expect("a part of a part");
        assert_eq!(attach(&mut parts, first, SHARED), Ok(Range { start: 0, len: 50 }));
        assert_eq!(attach(&mut parts, inner, SHARED), Ok(Range { start: 45, len: 5 }));
        assert_eq!(attach(&mut parts, second, WRITE), Err(Error::Busy));
        assert_eq!(parts.detach(first, Mode::ReadShared, 0), Ok(()));
        assert_eq!(attach(&mut parts, second, WRITE), Err(Error::Busy), "its neighbour's part is attached");
        assert_eq!(parts.detach(inner, Mode::ReadShared, 0), Ok(()));
        assert_eq!(attach(&mut parts, second, WRITE), Ok(Range { start: 40, len: 60 }));
        assert_eq!(attach(&mut parts, first, SHARED), Err(Error::Busy));
    }

    #[test]
    fn a_part_lies_inside_its_whole_and_has_no_more_rights() {
        let (mut parts, whole) = Parts::new(100, false);
        assert_eq!(parts.divide(whole, 0, 0, SHARED), Err(Error::WrongSize));
        assert_eq!(parts.divide(whole, 50, 51, SHARED), Err(Error::OutOfBounds));
        assert_eq!(parts.divide(whole, u32::MAX, 2, SHARED), Err(Error::OutOfBounds));
        let reading = parts.divide(whole, 0, 10, none()).expect("a part");
        assert_eq!(parts.divide(reading, 0, 1, SHARED), Err(Error::Denied));
        assert_eq!(attach(&mut parts, reading, WRITE), Err(Error::Denied));
        assert_eq!(attach(&mut parts, reading, SHARED), Err(Error::Denied));
        assert_eq!(attach(&mut parts, reading, none()), Ok(Range { start: 0, len: 10 }));
        let mut deep = whole;
        let failed = (0..100).find_map(|_| match parts.divide(deep, 0, 1, none()) {
            Ok(part) => {
                deep = part;
                None
            }
            Err(error) => Some(error),
        });
        assert_eq!(failed, Some(Error::Limit));
    }

    #[test]
    fn a_storage_lasts_as_long_as_a_handle_on_any_of_its_parts() {
        let (mut parts, whole) = Parts::new(100, false);
        let part = parts.divide(whole, 0, 10, WRITE).expect("a part");
        parts.add_handle(part);
        assert!(!parts.drop_handle(whole));
        assert!(!parts.drop_handle(part));
        assert!(parts.drop_handle(part));
    }
}
