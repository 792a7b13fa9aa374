//! Control segments in files.

use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Control, Publisher};
use crate::direct::Slot;
use crate::engine::remote::{Annexes, RemotePublisher};
use crate::engine::segment::annex::{AnnexFile, AnnexGeometry};
use crate::engine::segment::files::{CheckedFiles, SegmentError};
use crate::engine::segment::mapped_file::MappedFile;
use crate::engine::segment::preamble::{Offsets, Preamble};
use crate::engine::segment::side::Side;
use crate::engine::segment::words::{Header, KeptDescriptor};
use crate::primitive::AtomicU64;
use crate::sys;
use crate::sys::fork::InChild;

/// Keeps the memory of a control segment, and of this process's annex if the publisher is in another process.
#[derive(Debug)]
pub(super) struct Memory {
    publisher: Publisher,
    _control: MappedFile,
    _annex: Option<AnnexFile>,
}

impl Memory {
    #[inline(always)]
    pub(super) fn publisher(&self) -> &Publisher {
        &self.publisher
    }
}

/// The parts of a mapped control segment.
struct Parts {
    header: NonNull<Header>,
    slots: NonNull<Slot>,
    kept: NonNull<KeptDescriptor>,
    missing: NonNull<AtomicU64>,
}

impl Parts {
    /// # Safety
    /// `mapped` has `offsets.len` bytes.
    unsafe fn of(mapped: &MappedFile, offsets: &Offsets) -> Self {
        let base = mapped.base();
        // SAFETY: the offsets were laid out within `offsets.len` bytes from a page-aligned base.
        let at = |offset| unsafe { base.add(offset) };
        Self {
            header: at(offsets.header).cast(),
            slots: at(offsets.slots).cast(),
            kept: at(offsets.kept).cast(),
            missing: at(offsets.missing).cast(),
        }
    }
}

impl Control {
    /// Creates a control segment in a sealed memfd, and returns it with the file. Eight system calls.
    pub(crate) fn create(preamble: &Preamble) -> rustix::io::Result<(Self, OwnedFd)> {
        let geometry = preamble.geometry;
        let offsets = geometry.offsets().ok_or(rustix::io::Errno::INVAL)?;
        let file = sys::memfd::sized("blockcast-control", offsets.len)?;
        let in_child = InChild::Zeros(Header::look_closer);
        let mapped = MappedFile::writable(file.as_fd(), offsets.len, in_child)?;
        sys::memfd::seal(&file)?;
        let base = mapped.base();
        // SAFETY: mapped with that length.
        let Parts { header, slots, kept, missing } = unsafe { Parts::of(&mapped, &offsets) };
        let (first, last) = (preamble.encode(offsets.len as u64), preamble.encode_classes());
        // SAFETY: in bounds and aligned as laid out above; nobody else knows the mapping yet. The same
        // holds for each write below.
        unsafe { base.copy_from_nonoverlapping(NonNull::from(&first).cast(), first.len()) };
        // SAFETY: as above.
        let classes = unsafe { base.add(offsets.classes) };
        // SAFETY: as above, as many bytes as the geometry's classes have.
        unsafe { classes.copy_from_nonoverlapping(NonNull::from(&*last).cast(), last.len()) };
        // SAFETY: as above.
        unsafe { header.write(Header::new()) };
        for index in 0..geometry.slots as usize {
            // SAFETY: as above, `index < slots`.
            unsafe { slots.add(index).write(Slot::new()) };
        }
        for index in 0..geometry.blocks as usize {
            // SAFETY: as above, `index < blocks`.
            unsafe { kept.add(index).write(KeptDescriptor::new()) };
        }
        for index in 0..geometry.missing_words() {
            // SAFETY: as above.
            unsafe { missing.add(index).write(AtomicU64::new(0)) };
        }
        // SAFETY: as above; `memory` keeps the mapping.
        let side = unsafe { Side::at(base, offsets.side, geometry.cursors, geometry.blocks) };
        // SAFETY: as above.
        unsafe { side.initialise() };
        let memory =
            Arc::new(Memory { publisher: Publisher::Here(Annexes::new()), _control: mapped, _annex: None });
        let mask = u64::from(geometry.slots - 1);
        Ok((Self { header, slots, mask, side, kept, missing, geometry, memory }, file))
    }

    /// Maps the control segment of another process, and creates this process's annex with `seats` cursors.
    /// Returns its file too.
    pub(crate) fn open(
        control: &OwnedFd,
        checked: &CheckedFiles,
        seats: u32,
        publisher: RemotePublisher,
    ) -> Result<(Self, OwnedFd), SegmentError> {
        let CheckedFiles { preamble, offsets, .. } = checked;
        let mut geometry = preamble.geometry;
        let (annex, side, file) = AnnexFile::create(AnnexGeometry { seats, blocks: geometry.blocks })?;
        geometry.cursors = seats;
        let in_child = InChild::Zeros(Header::look_closer);
        let mapped = MappedFile::read_only(control.as_fd(), offsets.len, in_child)?;
        // SAFETY: `CheckedFiles` has checked that the file has that length. All bytes are values of the
        // atomics in it.
        let Parts { header, slots, kept, missing } = unsafe { Parts::of(&mapped, offsets) };
        let memory = Arc::new(Memory {
            publisher: Publisher::Remote(publisher),
            _control: mapped,
            _annex: Some(annex),
        });
        let mask = u64::from(geometry.slots - 1);
        Ok((Self { header, slots, mask, side, kept, missing, geometry, memory }, file))
    }
}
