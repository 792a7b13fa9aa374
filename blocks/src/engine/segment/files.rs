//! The descriptors of a channel's files, checked before they are mapped: [`CheckedFiles`].

use std::fmt;
use std::os::fd::OwnedFd;

use rustix::fs::{FsWord, SealFlags, fcntl_get_seals, fstat, fstatfs};
use rustix::io::{Errno, pread};

use super::layout::Layout;
use super::preamble::{CLASS_LEN, Geometry, Offsets, Preamble};
use crate::error::ChannelError;
use crate::options::SizeClass;
use crate::sys;
use crate::sys::mappings::NoMappings;

/// Largest number of size classes: each has two blocks or more.
const MAX_CLASSES: u32 = 1 << 19;

/// The type of the file system of huge pages, by `statfs(2)`.
const HUGETLBFS_MAGIC: FsWord = 0x9584_58f6;

/// Nobody who maps a file with these seals meets a bus error.
pub(crate) const RESIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);
/// Nobody except its creator writes a file with these seals.
pub(crate) const ALL_SEALS: SealFlags = RESIZE_SEALS.union(SealFlags::FUTURE_WRITE);

/// One of the files of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentFile {
    /// The words of the protocol.
    Control,
    /// The blocks.
    Arena,
    /// The side of a subscribing process.
    Annex,
}

impl fmt::Display for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control segment",
            Self::Arena => "arena",
            Self::Annex => "annex",
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
    /// The file is made of huge pages (`MFD_HUGETLB`). Mapping one takes pages from a small supply of the
    /// system, and only whole ones.
    #[error("the {0} is made of huge pages (MFD_HUGETLB)")]
    HugePages(SegmentFile),
    /// The file can still be resized, which may cause bus errors, or be written by others than its creator.
    #[error("the {file} lacks the seal {missing}: its creator must seal it")]
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
    /// The system offers no memory barriers that reach other processes. See
    /// [`register_machine_wide`](crate::register_machine_wide).
    #[error(
        "the system offers this process no memory barriers that reach other processes \
         (membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED): a sandbox around the process may be the cause"
    )]
    Barrier,
    /// The operating system refused to map the files.
    #[error("the system refused to map the channel: {0}")]
    System(String),
}

impl SegmentError {
    /// The system's error.
    pub(crate) fn system(error: Errno) -> Self {
        Self::System(error.to_string())
    }
}

/// The numbers of a channel, read once from its files, which have the right seals and sizes.
#[derive(Debug)]
pub(crate) struct CheckedFiles {
    pub(crate) preamble: Preamble,
    pub(crate) offsets: Offsets,
    pub(crate) layout: Layout,
    /// Bytes of the arena in whole pages.
    pub(crate) arena_len: usize,
}

impl CheckedFiles {
    pub(crate) fn new(control: &OwnedFd, arena: &OwnedFd, seals: SealFlags) -> Result<Self, SegmentError> {
        let control_len = check_file(control, SegmentFile::Control, seals)?;
        let len = check_file(arena, SegmentFile::Arena, seals)?;
        let (preamble, offsets) = read_preamble(control, control_len)?;
        let layout = check_layout(&preamble)?;
        let arena_len =
            sys::whole_pages(layout.len).ok_or_else(|| impossible("the arena exceeds the address space"))?;
        if len < arena_len as u64 {
            return Err(too_small(SegmentFile::Arena, arena_len as u64, len));
        }
        Ok(Self { preamble, offsets, layout, arena_len })
    }
}

/// Checks the seals of a file; returns its length, which can no longer change.
pub(crate) fn check_file(
    file: &OwnedFd,
    which: SegmentFile,
    required: SealFlags,
) -> Result<u64, SegmentError> {
    let seals = match fcntl_get_seals(file) {
        Err(Errno::INVAL) => return Err(SegmentError::NoMemfd(which)),
        seals => seals.map_err(SegmentError::system)?,
    };
    let missing = match (seals.contains(SealFlags::SHRINK), seals.contains(SealFlags::GROW)) {
        (true, true) if seals.contains(required) => None,
        (true, true) => Some("F_SEAL_FUTURE_WRITE"),
        (false, true) => Some("F_SEAL_SHRINK"),
        (true, false) => Some("F_SEAL_GROW"),
        (false, false) => Some("F_SEAL_SHRINK and F_SEAL_GROW"),
    };
    if let Some(missing) = missing {
        return Err(SegmentError::Unsealed { file: which, missing });
    }
    if fstatfs(file).map_err(SegmentError::system)?.f_type == HUGETLBFS_MAGIC {
        return Err(SegmentError::HugePages(which));
    }
    Ok(u64::try_from(fstat(file).map_err(SegmentError::system)?.st_size).unwrap_or(0))
}

/// Reads the preamble of a control segment of `len` bytes: a copy, which its creator cannot change while it
/// is checked.
fn read_preamble(file: &OwnedFd, len: u64) -> Result<(Preamble, Offsets), SegmentError> {
    let mut first = [0; Preamble::USED];
    read_exactly(file, SegmentFile::Control, &mut first, 0, len)?;
    let (magic, rest) = first.split_at(Preamble::MAGIC.len());
    if magic != Preamble::MAGIC {
        return Err(SegmentError::Magic);
    }
    let number = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
    let version = number(0);
    if version != Preamble::VERSION {
        return Err(SegmentError::Version { found: version, supported: Preamble::VERSION });
    }
    let relay = match number(20) {
        0 => false,
        1 => true,
        other => return Err(impossible(format!("{other} instead of 0 or 1 for a relay"))),
    };
    let (slots, cursors, blocks, classes) = (number(4), number(8), number(12), number(16));
    let geometry = Geometry { slots, cursors, blocks, classes, relay };
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
    read_exactly(file, SegmentFile::Control, &mut classes, offsets.classes as u64, len)?;
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

/// Reads from a file of `len` bytes.
pub(crate) fn read_exactly(
    file: &OwnedFd,
    which: SegmentFile,
    bytes: &mut [u8],
    at: u64,
    len: u64,
) -> Result<(), SegmentError> {
    let needed = at + bytes.len() as u64;
    if len < needed {
        return Err(too_small(which, needed, len));
    }
    let mut read = 0;
    while read < bytes.len() {
        match pread(file, &mut bytes[read..], at + read as u64) {
            Ok(0) => return Err(too_small(which, needed, at + read as u64)),
            Ok(more) => read += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(SegmentError::system(error)),
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
    let expected = Preamble::new(&layout, preamble.classes.clone(), cursors, preamble.geometry.relay);
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

pub(crate) fn too_small(file: SegmentFile, needed: u64, bytes: u64) -> SegmentError {
    SegmentError::TooSmall { file, needed, bytes }
}
