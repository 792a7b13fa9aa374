//! A channel's memory mapped from its descriptors: [`SegmentView`].

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::{Errno, pread};

use super::MAPPINGS;
use super::layout::Layout;
use super::preamble::{CLASS_LEN, Geometry, Offsets, Preamble};
use super::words::Header;
use crate::descriptor::{Descriptor, Packed, len_of, unit_of};
use crate::direct::Slot;
use crate::error::ChannelError;
use crate::options::SizeClass;
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::sys;
use crate::sys::fork::{InChild, Uninherited};
use crate::sys::mapping::Reservation;
use crate::sys::mappings::{NoMappings, charge_mappings};
use crate::units::Sequence;

/// Largest number of size classes: each has two blocks or more.
const MAX_CLASSES: u32 = 1 << 19;

/// One of the two files of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentFile {
    /// The words of the protocol.
    Control,
    /// The blocks.
    Arena,
}

impl fmt::Display for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control segment",
            Self::Arena => "arena",
        })
    }
}

/// The descriptors do not belong to a channel that can be mapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The file was not created by `memfd_create(2)`.
    #[error("the {0} is not a file made by memfd_create")]
    NoMemfd(SegmentFile),
    /// The file can still be resized. Whoever maps it could meet a bus error.
    #[error("the {file} lacks the seal {missing}: its creator must seal it against resizing")]
    Unsealed {
        /// Which file.
        file: SegmentFile,
        /// The missing seals, by their names in `fcntl.h`.
        missing: &'static str,
    },
    /// The file is shorter than its contents.
    #[error("the {file} has {bytes} bytes, but its layout needs {needed}")]
    TooSmall {
        /// Which file.
        file: SegmentFile,
        /// Bytes that the layout takes.
        needed: u64,
        /// Bytes that the file has.
        bytes: u64,
    },
    /// The file is not a control segment.
    #[error("the control segment does not start with the magic number of one")]
    Magic,
    /// Another version of this crate created the channel.
    #[error(
        "the channel has version {found} of the layout, this process understands {supported}: use one version"
    )]
    Version {
        /// The channel's version.
        found: u32,
        /// The version of this process.
        supported: u32,
    },
    /// The numbers in the control segment contradict each other or exceed their ranges.
    #[error("the channel's layout is impossible: {0}")]
    Geometry(String),
    /// The process has too few memory mappings left.
    #[error(transparent)]
    Mappings(#[from] NoMappings),
    /// The operating system refused to map the files.
    #[error("the system refused to map the channel: {0}")]
    System(String),
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// It was not published yet.
    #[error("the message was not published yet")]
    Unpublished,
    /// Its slot may have been overwritten.
    #[error("the message was given up by its publisher")]
    Overwritten,
    /// Its descriptor names no block of the channel, or more bytes than the block has: the publisher is
    /// broken.
    #[error("the message's descriptor names no block of the channel")]
    Corrupt,
}

/// A channel's memory, mapped read-only from its two descriptors, in any process that has them.
///
/// A view takes no part in the channel: its publisher knows nothing of it. Whatever the files contain,
/// opening and reading one never panics and never reaches memory outside of them. Both mappings are left out
/// of forked children, where a view shows a channel without messages.
///
/// ```
/// use std::os::fd::AsFd;
///
/// use blockcast_blocks::{ChannelConfig, PublisherId, Schema, SegmentView, Sequence, Signal, channel_to_share};
///
/// let config = ChannelConfig::new(PublisherId::new(1), Schema::named("greeting"));
/// // SAFETY: nobody writes to the files.
/// let (mut writer, files) = unsafe { channel_to_share(config, Signal::new()) }?;
/// let arena = files.arena.as_fd().try_clone_to_owned()?;
/// let view = SegmentView::open(files.control, arena)?;
///
/// let mut loan = writer.try_loan(5)?;
/// loan[..5].copy_from_slice(b"hello");
/// loan.publish(5)?;
///
/// assert_eq!(view.published(), 1);
/// let descriptor = view.descriptor(Sequence::new(0))?;
/// // SAFETY: the publisher, which is idle, does not reuse the block meanwhile.
/// assert_eq!(unsafe { view.bytes(&descriptor) }, Some(&b"hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SegmentView {
    control: Mapping,
    arena: Mapping,
    geometry: Geometry,
    offsets: Offsets,
    layout: Layout,
}

/// A file that is mapped read-only.
struct Mapping {
    // Dropped before the mapping.
    _uninherited: Uninherited,
    memory: Reservation,
}

impl SegmentView {
    /// Maps a channel's two files. About fifteen system calls; the files are closed before this returns.
    ///
    /// Both must be sealed against shrinking and growing. [`ArenaMemory`](crate::ArenaMemory) that the user
    /// provides is only sealed against shrinking: seal it against growing before passing it on.
    ///
    /// # Errors
    /// [`SegmentError`]. The numbers in the control segment are read once, and checked before anything is
    /// mapped.
    pub fn open(control: OwnedFd, arena: OwnedFd) -> Result<Self, SegmentError> {
        let control_len = check_file(&control, SegmentFile::Control)?;
        let arena_len = check_file(&arena, SegmentFile::Arena)?;
        let (preamble, offsets) = read_preamble(&control, control_len)?;
        let layout = check_layout(&preamble)?;
        let mapped_len =
            sys::whole_pages(layout.len).ok_or_else(|| impossible("the arena exceeds the address space"))?;
        if arena_len < mapped_len as u64 {
            return Err(too_small(SegmentFile::Arena, mapped_len as u64, arena_len));
        }
        charge_mappings(MAPPINGS)?;
        let refused = |error: Errno| SegmentError::System(error.to_string());
        // In a child: zeros, so that nothing was published.
        let control =
            Mapping::new(control.as_fd(), offsets.len, InChild::Zeros(leave_zeros)).map_err(refused)?;
        let arena = Mapping::new(arena.as_fd(), mapped_len, InChild::Nothing).map_err(refused)?;
        Ok(Self { control, arena, geometry: preamble.geometry, offsets, layout })
    }

    /// Messages published so far.
    #[must_use]
    pub fn published(&self) -> u64 {
        load_acquire(&self.header().head.next)
    }

    /// Blocks of the channel, of all sizes.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.geometry.blocks
    }

    /// Subscribers that the channel has room for.
    #[must_use]
    pub fn max_subscribers(&self) -> u32 {
        self.geometry.cursors
    }

    /// Position, time and length of a message. Checked: the bytes that it names are those of one block.
    ///
    /// The publisher may give the message up at any time. Then this returns [`ViewError::Overwritten`], or
    /// the descriptor of a later message.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn descriptor(&self, sequence: Sequence) -> Result<Descriptor, ViewError> {
        let sequence = sequence.get();
        if sequence >= self.published() {
            return Err(ViewError::Unpublished);
        }
        let slot = self.slot(sequence);
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        // Ordering: as in `Consumer::look_back`: where the publisher fences between the watermark and a later
        // message, and one of the loads above read that one's descriptor, the load below reads the watermark.
        fence(Ordering::Acquire);
        if self.header().state.watermark.load(Ordering::Relaxed) > sequence {
            return Err(ViewError::Overwritten);
        }
        match self.layout.capacity_at(unit_of(word)) {
            Some(capacity) if len_of(word) <= capacity as u64 => Ok(Packed { sequence, word, time }.unpack()),
            _ => Err(ViewError::Corrupt),
        }
    }

    /// The bytes that a descriptor names, or `None` if they lie outside of the arena.
    ///
    /// # Safety
    /// For as long as the returned slice is used, the publisher neither reuses the block nor changes what it
    /// has published, and the process is not forked.
    #[must_use]
    pub unsafe fn bytes(&self, descriptor: &Descriptor) -> Option<&[u8]> {
        let end = descriptor.offset.checked_add(u64::from(descriptor.len))?;
        if end > self.layout.len as u64 {
            return None;
        }
        // SAFETY: `offset <= end`, which is within the arena, and that is mapped as a whole.
        let start = unsafe { self.arena.memory.base().add(descriptor.offset as usize) };
        // SAFETY: as above; nobody writes there (the caller's promise), and the file started as zeros.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), descriptor.len as usize) })
    }

    fn header(&self) -> &Header {
        // SAFETY: `read_preamble` checked that the mapping has all parts, the header at its offset, which is
        // aligned. It consists of atomics, for which all bytes are values, and lives as long as the mapping.
        unsafe { self.control.memory.base().add(self.offsets.header).cast::<Header>().as_ref() }
    }

    fn slot(&self, sequence: u64) -> &Slot {
        let index = (sequence & u64::from(self.geometry.slots - 1)) as usize;
        // SAFETY: as in `header`; `slots` is a power of two (`Geometry::offsets`), so the index is below it.
        unsafe { self.control.memory.base().add(self.offsets.slots).cast::<Slot>().add(index).as_ref() }
    }
}

impl fmt::Debug for SegmentView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentView")
            .field("published", &self.published())
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

impl Mapping {
    fn new(file: BorrowedFd<'_>, len: usize, in_child: InChild) -> rustix::io::Result<Self> {
        let memory = Reservation::new(len)?;
        // SAFETY: the reservation is new, so nothing refers into it.
        unsafe { memory.map_read_only(0, len, file) }?;
        // SAFETY: the whole mapping, which is dropped after the value. The function in `in_child` touches
        // nothing.
        let _uninherited = unsafe { Uninherited::new(memory.base(), memory.len(), in_child) }?;
        Ok(Self { _uninherited, memory })
    }
}

/// Leaves the zeros that a child finds in place of the control segment as they are.
///
/// # Safety
/// None is needed.
unsafe fn leave_zeros(_: NonNull<u8>) {}

/// Loads with Acquire from memory that cannot be written.
fn load_acquire(word: &AtomicU64) -> u64 {
    // Ordering: Relaxed, and a fence. Only relaxed loads are sure not to write, which would end the process
    // here.
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

/// Checks the seals of a file; returns its length, which can no longer change.
fn check_file(file: &OwnedFd, which: SegmentFile) -> Result<u64, SegmentError> {
    let refused = |error: Errno| SegmentError::System(error.to_string());
    let seals = match fcntl_get_seals(file) {
        Err(Errno::INVAL) => return Err(SegmentError::NoMemfd(which)),
        seals => seals.map_err(refused)?,
    };
    let missing = match (seals.contains(SealFlags::SHRINK), seals.contains(SealFlags::GROW)) {
        (true, true) => None,
        (false, true) => Some("F_SEAL_SHRINK"),
        (true, false) => Some("F_SEAL_GROW"),
        (false, false) => Some("F_SEAL_SHRINK and F_SEAL_GROW"),
    };
    if let Some(missing) = missing {
        return Err(SegmentError::Unsealed { file: which, missing });
    }
    Ok(u64::try_from(fstat(file).map_err(refused)?.st_size).unwrap_or(0))
}

/// Reads the preamble of a control segment of `len` bytes: a copy, which its creator cannot change while it
/// is checked.
fn read_preamble(file: &OwnedFd, len: u64) -> Result<(Preamble, Offsets), SegmentError> {
    let mut first = [0; Preamble::USED];
    read_exactly(file, &mut first, 0, len)?;
    let (magic, rest) = first.split_at(Preamble::MAGIC.len());
    if magic != Preamble::MAGIC {
        return Err(SegmentError::Magic);
    }
    let number = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
    let version = number(0);
    if version != Preamble::VERSION {
        return Err(SegmentError::Version { found: version, supported: Preamble::VERSION });
    }
    let geometry = Geometry { slots: number(4), cursors: number(8), blocks: number(12), classes: number(16) };
    let (numbers, _) = rest[24..].as_chunks::<8>();
    let (control_len, arena_len) = (u64::from_ne_bytes(numbers[0]), u64::from_ne_bytes(numbers[1]));
    if !(1..=MAX_CLASSES).contains(&geometry.classes) {
        return Err(impossible(format!("{} size classes", geometry.classes)));
    }
    let offsets = geometry.offsets().ok_or_else(|| impossible(format!("{geometry:?}")))?;
    if offsets.len as u64 != control_len {
        return Err(impossible(format!("{geometry:?} takes {} bytes, not {control_len}", offsets.len)));
    }
    if len < control_len {
        return Err(too_small(SegmentFile::Control, control_len, len));
    }
    let mut classes = vec![0; CLASS_LEN * geometry.classes as usize];
    read_exactly(file, &mut classes, offsets.classes as u64, len)?;
    let (classes, _) = classes.as_chunks::<CLASS_LEN>();
    let decode = |class: &[u8; CLASS_LEN]| {
        let (words, _) = class.as_chunks::<4>();
        let (sizes, _) = class.as_chunks::<8>();
        SizeClass {
            block_size: u64::from_ne_bytes(sizes[0]) as usize,
            blocks: u32::from_ne_bytes(words[2]),
            max_blocks: u32::from_ne_bytes(words[3]),
        }
    };
    let classes = classes.iter().map(decode).collect();
    Ok((Preamble { geometry, arena_len, classes }, offsets))
}

fn read_exactly(file: &OwnedFd, bytes: &mut [u8], at: u64, len: u64) -> Result<(), SegmentError> {
    let needed = at + bytes.len() as u64;
    if len < needed {
        return Err(too_small(SegmentFile::Control, needed, len));
    }
    let mut read = 0;
    while read < bytes.len() {
        match pread(file, &mut bytes[read..], at + read as u64) {
            Ok(0) => return Err(too_small(SegmentFile::Control, needed, at + read as u64)),
            Ok(more) => read += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(SegmentError::System(error.to_string())),
        }
    }
    Ok(())
}

/// Lays the blocks out, and checks that the other numbers follow from that.
fn check_layout(preamble: &Preamble) -> Result<Layout, SegmentError> {
    let layout = Layout::new(&preamble.classes).map_err(|error| match error {
        ChannelError::Config(text) => impossible(text),
        other => impossible(other.to_string()),
    })?;
    let cursors = preamble.geometry.cursors;
    if cursors > crate::engine::config::MAX_SUBSCRIBERS {
        return Err(impossible(format!("{cursors} cursors")));
    }
    let expected = Preamble::new(&layout, preamble.classes.clone(), cursors);
    if *preamble != expected {
        return Err(impossible(format!(
            "{:?} and an arena of {} bytes, but its blocks take {:?} and {} bytes",
            preamble.geometry, preamble.arena_len, expected.geometry, expected.arena_len
        )));
    }
    Ok(layout)
}

fn impossible(what: impl Into<String>) -> SegmentError {
    SegmentError::Geometry(what.into())
}

fn too_small(file: SegmentFile, needed: u64, bytes: u64) -> SegmentError {
    SegmentError::TooSmall { file, needed, bytes }
}

#[cfg(test)]
mod tests;
