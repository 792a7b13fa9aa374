//! A channel's memory mapped from its descriptors: [`SegmentView`].

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use super::MAPPINGS;
use super::files::{CheckedFiles, RESIZE_SEALS, SegmentError};
use super::layout::Layout;
use super::mapped_file::{MappedFile, leave_zeros};
use super::preamble::{Geometry, Offsets};
use super::words::Header;
use crate::descriptor::{Descriptor, Packed, len_of, unit_of};
use crate::direct::Slot;
use crate::primitive::{LoadAcquire as _, Ordering, fence};
use crate::sys::fork::InChild;
use crate::sys::mappings::charge_mappings;
use crate::units::Sequence;

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
    control: MappedFile,
    arena: MappedFile,
    geometry: Geometry,
    offsets: Offsets,
    layout: Layout,
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
        let checked = CheckedFiles::new(&control, &arena, RESIZE_SEALS)?;
        let CheckedFiles { preamble, offsets, layout, arena_len } = checked;
        charge_mappings(MAPPINGS)?;
        // In a child: zeros, so that nothing was published.
        let control = MappedFile::read_only(control.as_fd(), offsets.len, InChild::Zeros(leave_zeros))?;
        let arena = MappedFile::read_only(arena.as_fd(), arena_len, InChild::Nothing)?;
        Ok(Self { control, arena, geometry: preamble.geometry, offsets, layout })
    }

    /// Messages published so far.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.header().head.next.load_acquire()
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
        let start = unsafe { self.arena.base().add(descriptor.offset as usize) };
        // SAFETY: as above; nobody writes there (the caller's promise), and the file started as zeros.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), descriptor.len as usize) })
    }

    fn header(&self) -> &Header {
        // SAFETY: `CheckedFiles` has checked that the mapping has all parts, the header at its offset, which
        // is aligned. It consists of atomics, for which all bytes are values, and lives as long as the
        // mapping.
        unsafe { self.control.base().add(self.offsets.header).cast::<Header>().as_ref() }
    }

    fn slot(&self, sequence: u64) -> &Slot {
        let index = (sequence & u64::from(self.geometry.slots - 1)) as usize;
        // SAFETY: as in `header`; `slots` is a power of two (`Geometry::offsets`), so the index is below it.
        unsafe { self.control.base().add(self.offsets.slots).cast::<Slot>().add(index).as_ref() }
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

#[cfg(test)]
mod tests;
