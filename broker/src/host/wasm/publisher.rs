//! A guest's publisher: copies small messages into a block, and lets the guest build large ones in place.
//!
//! # Built in place
//! The host's own mapping of the arena is writable, and the file behind it is sealed against further writable
//! mappings. The guest's window is a duplicate of that mapping ([`Windows::map_again`]), initially read-only:
//!
//! ```text
//! arena    [ block 0 | block 1 | block 2 | block 3 ]
//! host       rw        rw        rw        rw
//! guest      r         rw ◀ loan r         r        loan: one mprotect; sealing it: one more
//! ```
//! Only whole pages can be made writable. So blocks that are built in place consist of whole pages and share
//! none with a neighbour. A loan is sealed before it is validated and its descriptor is published: from the
//! first moment that anybody else can see the block, nobody can write it. In an unsealed topic, the whole
//! window stays writable instead, and nothing of this is guaranteed.

use std::fmt;
use std::os::fd::AsFd;
use std::task::Context;

use blockcast_blocks::SuspendedLoan;
use blockcast_blocks::abi::{Error, PublisherStats};

use super::sys;
use crate::component::limit_policy::Limit;
use crate::host::wasm::memory::area::Area;
use crate::host::wasm::memory::window::{Owner, Place, Span, Window, Windows};
use crate::hosting::handles::Handles;
use crate::hosting::meter::Meter;
use crate::hosting::publishing::{Output, Trust};
use crate::hosting::topic_access::PublisherPort;

/// Bytes of an entry of a batch, which names a message: its address and its size.
const ENTRY: u32 = 8;

/// Entries start at multiples of this.
const ENTRY_ALIGNMENT: u32 = 4;

/// Why a batch was not published.
pub(crate) enum Refused {
    /// The error that the guest sees.
    Error(Error),
    /// The limit that it has reached.
    Limit(Limit),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// A block that was loaned to the guest.
pub(crate) struct Loaned {
    pub(crate) block: SuspendedLoan,
    /// The number of bytes that the guest may fill.
    pub(crate) size: u32,
    /// Whether the guest fills the block itself.
    pub(crate) in_place: bool,
}

/// The publishers of a guest, by their keys, which have 32 bits. After a publisher is dropped, its key names
/// none.
pub(crate) type Publishers = Handles<GuestPublisher, 16, 16>;

/// A publisher of a guest.
pub(crate) struct GuestPublisher {
    owner: Owner,
    topic: String,
    output: Output<Box<dyn PublisherPort>>,
    /// Shows the arena to the guest, once it has built a message in place.
    window: Option<Window>,
    /// Messages of at least this many bytes are built in place.
    in_place_from: u32,
    /// Whether the blocks stay writable to the guest.
    unsealed: bool,
    /// Bytes of the arena.
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

    /// The smallest size of messages that are built in place, or `u32::MAX` if none are.
    pub(crate) fn in_place_from(&mut self) -> u32 {
        if self.block_size() < self.in_place_from { u32::MAX } else { self.in_place_from }
    }

    /// Publishes a copy of `message`: copied once, then checked where the guest can no longer change it.
    pub(crate) fn publish(&mut self, windows: &Windows, message: Area) -> Result<u64, Error> {
        let source = windows.ordinary(message)?;
        let trust = self.trust();
        // SAFETY: `size` accessible bytes of the guest's memory, which nobody else touches during a host
        // call. The arena is a different mapping.
        unsafe { self.output.send_copy(source, message.size, trust) }
    }

    /// Publishes a copy of each message that an entry of `batch` names, in order, and returns how many. Ends
    /// before a message that cannot be published, and when `meter` or `is_over` say so.
    ///
    /// # Errors
    /// Why the first one was not published.
    pub(crate) fn publish_batch(
        &mut self,
        windows: &Windows,
        batch: Area,
        meter: &mut Meter,
        is_over: impl Fn() -> bool,
    ) -> Result<u32, Refused> {
        if !batch.address.is_multiple_of(ENTRY_ALIGNMENT) || !batch.size.is_multiple_of(ENTRY) {
            return Err(Error::WrongSize.into());
        }
        let entries = windows.ordinary(batch)?;
        let trust = self.trust();
        let mut output = self.output.batch(trust);
        for index in 0..batch.size / ENTRY {
            let entry = entries.wrapping_add((index * ENTRY) as usize).cast::<[u32; 2]>();
            // SAFETY: inside of `batch`, which is accessible memory of the guest that nobody else touches
            // during a host call.
            let [address, size] = unsafe { entry.read_unaligned() }.map(u32::from_le);
            let added = meter.may_publish().map_err(Refused::Limit).and_then(|()| {
                let source = windows.ordinary(Area { address, size })?;
                // SAFETY: `size` accessible bytes of the guest's memory, which nobody else touches during a
                // host call. The arena is a different mapping.
                Ok(unsafe { output.add_copy(source, size) }?)
            });
            match added {
                Ok(()) => meter.published(u64::from(size)),
                Err(refused) if index == 0 => return Err(refused),
                Err(_) => break,
            }
            if is_over() {
                break;
            }
        }
        Ok(output.added())
    }

    /// Loans a block for a message of up to `size` bytes.
    pub(crate) fn lend(&mut self, size: u32) -> Result<Loaned, Error> {
        let block = self.output.loan(size)?;
        let page = sys::page_size();
        let whole_pages = block.offset().is_multiple_of(page as u64) && block.capacity().is_multiple_of(page);
        let in_place = size >= self.in_place_from && whole_pages;
        let capacity = u32::try_from(block.capacity()).unwrap_or(u32::MAX);
        let size = if in_place { capacity } else { size.next_multiple_of(64).min(capacity) };
        Ok(Loaned { block, size, in_place })
    }

    /// Returns a loaned block that is not published.
    pub(crate) fn return_loan(&mut self, block: SuspendedLoan) {
        self.output.return_loan(block);
    }

    /// Bytes of address space that building in place still needs.
    pub(crate) fn window_size(&self) -> u64 {
        if self.window.is_some() { 0 } else { self.bytes }
    }

    /// Shows a loaned block to the guest, writable if `write`. Returns its address in the guest.
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
            // SAFETY: the block is loaned to this guest, so no subscriber is attached to it, and the
            // suspended loan gives out no reference. It is sealed before either changes.
            unsafe { windows.allow_writing(window, block.offset(), block.capacity()) }?;
        }
        // The window has the arena's length, so the sum is inside the memory.
        Ok(window.address + block.offset() as u32)
    }

    fn map(&mut self, windows: &mut Windows) -> Result<Window, Error> {
        let arena = self.output.writer().channel().arena();
        // SAFETY: only the window is made from the file. The guest can write only to the block that it has on
        // loan, until `seal`.
        let file = unsafe { arena.memfd() }.ok_or(Error::Internal)?; // open while the writer is there
        let span = Span { file: file.as_fd(), offset: 0, len: arena.len() };
        let place = Place { owner: self.owner, ..Place::own(Owner::BLOCKS) };
        // SAFETY: the writer keeps the arena, and so its file and its mapping, which is one shared mapping of
        // the whole file. `withdraw` unmaps the window before the writer is dropped; otherwise the guest has
        // ended.
        let window = unsafe { windows.map_again(place, span, arena.base().as_ptr()) }?;
        if self.unsealed {
            // SAFETY: nobody in this process has references into the blocks of an unsealed topic. Native code
            // cannot subscribe to it, hosts of other guests copy nothing out of it, and this publisher copies
            // into a block only while its guest is inside a host call.
            if let Err(error) = unsafe { windows.allow_writing(window, 0, span.len) } {
                windows.unmap(window);
                return Err(error.into());
            }
        }
        self.window = Some(window);
        Ok(window)
    }

    /// Revokes write access to a block. When this succeeds, nobody can write it.
    pub(crate) fn seal(&mut self, windows: &mut Windows, block: &SuspendedLoan) -> Result<(), Error> {
        match self.window {
            Some(window) if !self.unsealed => {
                Ok(windows.forbid_writing(window, block.offset(), block.capacity())?)
            }
            _ => Ok(()),
        }
    }

    /// Removes the window. After that, the publisher can be dropped.
    pub(crate) fn withdraw(&mut self, windows: &mut Windows) {
        if let Some(window) = self.window.take() {
            windows.unmap(window);
        }
    }

    /// Publishes a block that the guest has filled in place and that has been [sealed](Self::seal) since.
    pub(crate) fn publish_sealed(
        &mut self,
        block: SuspendedLoan,
        len: u32,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        self.output.publish(block, len, self.trust())
    }

    /// Bytes that can still change are not validated.
    fn trust(&self) -> Trust {
        if self.unsealed { Trust::Nothing } else { Trust::Validate }
    }

    /// Publishes a copy of `len` bytes from `source` in a loaned block.
    ///
    /// The bytes are known to be ordinary memory of the guest, or plain memory set aside for it.
    pub(crate) fn publish_copy(
        &mut self,
        block: SuspendedLoan,
        source: Option<*mut u8>,
        len: u32,
    ) -> Result<u64, (SuspendedLoan, Error)> {
        let trust = self.trust();
        // SAFETY: `len` accessible bytes of the guest's memory, which nobody else touches during a host call.
        // The arena is a different mapping.
        unsafe { self.output.publish_copy(block, source.map(<*mut u8>::cast_const), len, trust) }
    }

    /// The number of subscribers now.
    pub(crate) fn subscribers(&mut self) -> u32 {
        self.output.subscribers()
    }

    /// The number of messages that can be published now.
    pub(crate) fn free_blocks(&mut self) -> u32 {
        self.output.free_blocks()
    }

    /// Announces that the guest is about to sleep. Returns `true` if it has a reason not to.
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
