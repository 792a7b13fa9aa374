//! The shared memory of one channel: [`Segment`].
//!
//! A segment consists of two memfds. The [`arena`] holds the blocks; [`external_memory`] is memory that the
//! user provides for them. The [`control`] segment holds the [`words`] of the protocol. Its [`preamble`] says
//! how both are laid out, so that a holder of the two descriptors can map them once it has checked the
//! [`files`]: see [`view`]. Every other process that subscribes has its [`side`] of the words in an
//! [`annex`].

#[cfg(not(loom))]
pub(crate) mod annex;
pub mod arena;
pub(crate) mod control;
pub(crate) mod external_memory;
#[cfg(not(loom))]
pub(crate) mod files;
pub(crate) mod layout;
#[cfg(not(loom))]
pub(crate) mod mapped_file;
pub(crate) mod preamble;
pub(crate) mod side;
#[cfg(not(loom))]
pub(crate) mod view;
pub(crate) mod words;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use arena::Arena;
use control::Control;
use external_memory::ArenaMemory;
use layout::Layout;
use preamble::Preamble;

use crate::error::ChannelError;
use crate::sys::file_size::file_size_limit;
use crate::sys::mappings::{NoMappings, charge_mappings};

/// Memory mappings of a segment: control segment and arena.
const MAPPINGS: usize = 2;

/// The shared memory of one channel, in the process that created it or in one that has opened it.
#[derive(Debug)]
pub(crate) struct Segment {
    control: Control,
    arena: Arena,
    layout: Layout,
}

/// The descriptors of a segment, from which another process [opens](crate::Channel::open_remote) or
/// [views](crate::SegmentView::open) it.
#[derive(Debug)]
pub struct SegmentFiles {
    /// The words of the protocol.
    #[cfg(not(loom))]
    pub control: OwnedFd,
    /// The blocks.
    pub arena: Arc<OwnedFd>,
}

impl Segment {
    /// Creates a segment of this layout, with the arena in `memory` if the user provides it. `name` shows up
    /// in `/proc/self/maps`. With `prefault`, every page of the arena is touched now.
    pub(crate) fn create(
        preamble: &Preamble,
        layout: Layout,
        name: &str,
        prefault: bool,
        memory: Option<ArenaMemory>,
    ) -> Result<(Self, SegmentFiles), ChannelError> {
        let len = layout.len;
        let refused = |error: Errno| match error {
            Errno::FBIG => ChannelError::FileSize { bytes: len as u64, limit: file_size_limit() },
            error => ChannelError::system(len, error),
        };
        charge_mappings(MAPPINGS)
            .map_err(|NoMappings { left, reserve }| ChannelError::Mappings { left, reserve })?;
        #[cfg(not(loom))]
        let (control, control_file) = Control::create(preamble).map_err(refused)?;
        #[cfg(loom)]
        let control = Control::create(preamble).map_err(refused)?;
        let (arena, file) = match memory {
            Some(memory) => Arena::over(memory, len, prefault)?,
            None => Arena::create(name, len, prefault).map_err(refused)?,
        };
        let files = SegmentFiles {
            #[cfg(not(loom))]
            control: control_file,
            arena: file,
        };
        Ok((Self { control, arena, layout }, files))
    }

    /// The segment of these parts.
    #[cfg(not(loom))]
    pub(crate) fn of(control: Control, arena: Arena, layout: Layout) -> Self {
        Self { control, arena, layout }
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Where the blocks lie.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }
}
