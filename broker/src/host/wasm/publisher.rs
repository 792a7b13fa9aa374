//! A guest's publisher: copies small messages into a block, lets large ones be built in it.
//!
//! # Built in place
//! The host's own mapping of the arena is writable, the file behind it sealed against further writable mappings. The
//! guest's window is a duplicate of that mapping ([`Windows::map_again`]), read-only at first:
//!
//! ```text
//! arena    [ block 0 | block 1 | block 2 | block 3 ]
//! host       rw        rw        rw        rw
//! guest      r         rw ◀ loan r         r        loan: one mprotect; sealing it: one more
//! ```
//! Only whole pages can be made writable, so the blocks of a publisher that are built in place consist of whole pages: no
//! neighbour shares one. A loan is sealed before its descriptor is published, and validated after it is sealed; from the
//! first moment that anybody else can see the block, nobody can write it. In an unsealed topic the whole window stays
//! writable instead, and neither is promised.

use std::fmt;
use std::os::fd::AsFd;
use std::task::Context;

use blockcast_blocks::SuspendedLoan;
use blockcast_blocks::abi::{Error, PublisherStats};

use super::sys;
use crate::host::wasm::memory::area::Area;
use crate::host::wasm::memory::window::{Owner, Place, Span, Window, Windows};
use crate::hosting::publishing::{Output, Trust};
use crate::hosting::topic_access::PublisherPort;

/// A block that was lent to the guest.
pub(crate) struct Loaned {
    pub(crate) block: SuspendedLoan,
    /// Bytes that the guest may fill.
    pub(crate) size: u32,
    /// Whether it fills the block itself.
    pub(crate) in_place: bool,
}

/// A publisher of a guest.
pub(crate) struct GuestPublisher {
    owner: Owner,
    topic: String,
    output: Output<Box<dyn PublisherPort>>,
    /// Shows the arena to the guest, once it has built a message in place.
    window: Option<Window>,
    /// Messages of at least that many bytes are built in place.
    in_place_from: u32,
    /// Its blocks stay writable to it.
    unsealed: bool,
    /// Bytes of its blocks.
    bytes: u64,
}

impl GuestPublisher {
    pub(crate) fn new(
        owner: Owner,
        topic: String,
        mut port: Box<dyn PublisherPort>,
        in_place_from: u32,
    ) -> Self {
        let bytes = port.writer().0.channel().arena().len() as u64;
        let unsealed = port.is_unsealed();
        Self { owner, topic, output: Output::new(port), window: None, in_place_from, unsealed, bytes }
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn block_size(&mut self) -> u32 {
        self.output.block_size()
    }

    /// From how many bytes on messages are built in place; the largest number where none is.
    pub(crate) fn in_place_from(&mut self) -> u32 {
        if self.block_size() < self.in_place_from { u32::MAX } else { self.in_place_from }
    }

    /// Publishes a copy of the bytes of `message`: copied once, then checked where the guest cannot change them any more.
    pub(crate) fn publish(&mut self, windows: &Windows, message: Area) -> Result<u64, Error> {
        let source = windows.ordinary(message)?;
        let block = self.output.loan(message.size)?;
        // A block that is not published goes back.
        self.publish_copy(block, Some(source), message.size).map_err(|(block, error)| {
            self.return_loan(block);
            error
        })
    }

    /// Lends a block for a message of up to `size` bytes.
    pub(crate) fn lend(&mut self, size: u32) -> Result<Loaned, Error> {
        let block = self.output.loan(size)?;
        let page = sys::page_size();
        let whole_pages = block.offset().is_multiple_of(page as u64) && block.capacity().is_multiple_of(page);
        let in_place = size >= self.in_place_from && whole_pages;
        let capacity = u32::try_from(block.capacity()).unwrap_or(u32::MAX);
        let size = if in_place { capacity } else { size.next_multiple_of(64).min(capacity) };
        Ok(Loaned { block, size, in_place })
    }

    /// Takes back a block that was lent and is not published.
    pub(crate) fn return_loan(&mut self, block: SuspendedLoan) {
        self.output.return_loan(block);
    }

    /// Bytes of address space that are missing for building in place.
    pub(crate) fn window_size(&self) -> u64 {
        if self.window.is_some() { 0 } else { self.bytes }
    }

    /// Shows a block that was lent to the guest, writable if it is to be filled. Returns where it begins.
    pub(crate) fn attach(
        &mut self,
        windows: &mut Windows,
        block: &SuspendedLoan,
        write: bool,
    ) -> Result<u32, Error> {
        let window = match self.window {
            Some(window) => window,
            None => self.map(windows)?,
        };
        if write && !self.unsealed {
            // SAFETY: the block is lent to this guest, so no subscriber is attached to it, and the suspended loan
            // gives out no reference; it is sealed before either changes.
            unsafe { windows.allow_writing(window, block.offset(), block.capacity()) }?;
        }
        // The window has the arena's length, so the sum stays inside of the memory.
        Ok(window.address + block.offset() as u32)
    }

    fn map(&mut self, windows: &mut Windows) -> Result<Window, Error> {
        let arena = self.output.writer().channel().arena();
        // SAFETY: the file becomes the window, in which only the holder of a loan can write, and only to that block (`seal`).
        let file = unsafe { arena.memfd() }.ok_or(Error::Internal)?; // open while the writer is there
        let span = Span { file: file.as_fd(), offset: 0, len: arena.len() };
        let place = Place { owner: self.owner, ..Place::own(Owner::BLOCKS) };
        // SAFETY: the writer keeps the arena and so its file and its mapping, which is one shared mapping of all of it. The
        // window is unmapped before the writer is dropped (`withdraw`); the only other way out is the guest's end.
        let window = unsafe { windows.map_again(place, span, arena.base().as_ptr()) }?;
        if self.unsealed {
            // SAFETY: nobody in this process looks into the blocks of an unsealed topic: native code is kept from
            // subscribing to it, the host of other guests copies nothing out of it, and what this publisher copies into a
            // block it copies while its guest stands still.
            if let Err(error) = unsafe { windows.allow_writing(window, 0, span.len) } {
                windows.unmap(window);
                return Err(error.into());
            }
        }
        self.window = Some(window);
        Ok(window)
    }

    /// Takes write access to a block away again. When this returns without an error, nobody can write it.
    pub(crate) fn seal(&mut self, windows: &mut Windows, block: &SuspendedLoan) -> Result<(), Error> {
        match self.window {
            Some(window) if !self.unsealed => {
                Ok(windows.forbid_writing(window, block.offset(), block.capacity())?)
            }
            _ => Ok(()),
        }
    }

    /// Takes the window away. What is left of the publisher can then be dropped.
    pub(crate) fn withdraw(&mut self, windows: &mut Windows) {
        if let Some(window) = self.window.take() {
            windows.unmap(window);
        }
    }

    /// Publishes a block that the guest has filled in place, and that was [sealed](Self::seal) since.
    pub(crate) fn publish_sealed(
        &mut self,
        block: SuspendedLoan,
        len: u32,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        self.output.publish(block, len, self.trust())
    }

    /// What can still change is not worth a look.
    fn trust(&self) -> Trust {
        if self.unsealed { Trust::Nothing } else { Trust::Validate }
    }

    /// Publishes a copy of `len` bytes from `source` on in a block that was taken.
    ///
    /// The bytes were checked to be ordinary memory of the guest, or plain memory set aside for it.
    pub(crate) fn publish_copy(
        &mut self,
        block: SuspendedLoan,
        source: Option<*mut u8>,
        len: u32,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        let trust = self.trust();
        // SAFETY: `len` accessible bytes of the guest's memory, which nobody else touches during a host call; the arena is
        // another mapping.
        unsafe { self.output.publish_copy(block, source.map(<*mut u8>::cast_const), len, trust) }
    }

    /// How many subscribers there are.
    pub(crate) fn subscribers(&mut self) -> u32 {
        self.output.subscribers()
    }

    /// How many messages can be published now.
    pub(crate) fn free_blocks(&mut self) -> u32 {
        self.output.free_blocks()
    }

    /// Announces that the guest is about to sleep, and says whether it has reason not to.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        self.output.arm(cx)
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        self.output.stats()
    }
}

impl fmt::Debug for GuestPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestPublisher").field("output", &self.output).finish_non_exhaustive()
    }
}
