//! A guest's subscription: windows over the arenas of a topic's publishers, and the [deliveries](Deliveries)
//! in them.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Waker;

use blockcast_blocks::Channel;
use blockcast_blocks::abi::Error;

use crate::component::isolation::Isolation;
use crate::component::limit_policy::{Limit, LimitPolicy};
use crate::component::limits::ComponentLimits;
use crate::host::wasm::memory::area::{Area, Extent, GRANULE};
use crate::host::wasm::memory::view::View;
use crate::host::wasm::memory::window::{Owner, Place, Span, Window, WindowError, Windows};
use crate::hosting::address_space::{AddressSpace, ArenaView, Delivery, NO_MESSAGE};
use crate::hosting::deliveries::Deliveries;
use crate::hosting::held_blocks::HeldBlocks;
use crate::hosting::topic_access::SubscriptionSource;

/// One message as `subscription.poll` writes it into the guest's batch: 32 bytes, little-endian.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    pub(crate) address: u32,
    pub(crate) length: u32,
    pub(crate) publisher: u32,
    pub(crate) lost: u32,
}

const _: () = assert!(size_of::<Record>() == 32 && align_of::<Record>() == 8);
const _: () = assert!(cfg!(target_endian = "little"), "records are little-endian and written as they are");

/// Bytes of one record in a batch.
const RECORD: u32 = size_of::<Record>() as u32;

/// The windows of one subscription.
struct SubscriptionWindows<'w> {
    windows: &'w mut Windows,
    owner: Owner,
    isolation: Isolation,
}

/// Where a guest sees one publisher's arena.
#[derive(Debug, Default)]
pub(crate) struct ArenaWindow {
    window: Option<Window>,
    /// The visible parts, unless the window shows the whole arena.
    view: Option<View>,
}

impl AddressSpace for SubscriptionWindows<'_> {
    type ArenaView = ArenaWindow;

    unsafe fn open(&mut self, shown: &mut ArenaWindow, channel: &Arc<Channel>) -> Result<bool, Error> {
        let arena = channel.arena();
        if shown.view.is_none() {
            shown.view = match self.isolation {
                Isolation::Arena => None,
                Isolation::Strict => Some(View::new(arena.len()).map_err(|_| Error::Internal)?),
                Isolation::Copied => Some(View::copied(arena.len())),
            };
        }
        let mapped = match &shown.view {
            // SAFETY: `close` or `withdraw` unmaps the window before the view, stored beside it, is dropped.
            // Otherwise the guest has ended, and its fault handler no longer runs.
            Some(view) => unsafe { view.open(self.windows, self.owner) },
            None => {
                // `None` only if nobody was allowed to map the arena when the subscription joined.
                // SAFETY: only the window is made from it, which is read-only.
                let Some(file) = (unsafe { arena.memfd() }) else { return Ok(false) };
                let place = Place { alignment: alignment_of(channel), ..Place::own(self.owner) };
                let span = Span { file: file.as_fd(), offset: 0, len: arena.len() };
                // SAFETY: the file is sealed at this length, and the caller keeps it open until `shown` is
                // closed.
                unsafe { self.windows.map(place, span, arena.len()) }
            }
        };
        match mapped {
            Ok(window) => shown.window = Some(window),
            Err(WindowError::NoRoom) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(shown.window.is_some())
    }

    #[inline]
    fn is_selective(&self) -> bool {
        self.isolation != Isolation::Arena
    }

    unsafe fn show(
        &mut self,
        shown: &mut ArenaWindow,
        channel: &Channel,
        offset: u64,
        len: u32,
    ) -> Result<u64, Error> {
        let (Some(view), Some(window)) = (&mut shown.view, shown.window) else { return Ok(0) };
        // SAFETY: the window belongs to the view and shows this channel's arena. The message stays attached
        // until it is hidden (the caller's promise).
        Ok(unsafe { view.show(self.windows, window, channel.arena(), offset, len) }?)
    }

    fn retain(&mut self, shown: &mut ArenaWindow, offset: u64) {
        if let Some(view) = &mut shown.view {
            view.retain(offset);
        }
    }

    fn hide(&mut self, shown: &mut ArenaWindow, offset: u64) {
        if let (Some(view), Some(window)) = (&mut shown.view, shown.window) {
            // A failure leaves a hole in the guest's memory, and ends the guest.
            let _ = view.hide(self.windows, window, offset);
        }
    }

    fn close(&mut self, shown: ArenaWindow) {
        if let Some(window) = shown.window {
            self.windows.unmap(window);
        }
    }
}

/// The preferred alignment of an arena's window, with which large pages of the arena are large pages of the
/// guest.
fn alignment_of(channel: &Channel) -> u64 {
    channel.arena().alignment() as u64
}

impl ArenaView for ArenaWindow {
    type Record = Record;

    #[inline]
    fn is_open(&self) -> bool {
        self.window.is_some()
    }

    #[inline]
    fn record(&self, delivery: Delivery) -> Record {
        let Delivery { sequence, time, offset, length, publisher, lost } = delivery;
        let base = self.window.map_or(0, |window| window.address);
        // The window has the arena's length, so the sum is inside the memory.
        Record { sequence, time, address: base + offset as u32, length, publisher, lost }
    }

    fn loss(publisher: u32, lost: u32) -> Record {
        Record { sequence: NO_MESSAGE, time: 0, address: 0, length: 0, publisher, lost }
    }
}

/// A subscription of a guest.
pub(crate) struct GuestSubscription {
    owner: Owner,
    topic: String,
    isolation: Isolation,
    policy: LimitPolicy,
    deliveries: Deliveries<ArenaWindow>,
    /// Bytes of address space that the guest was asked to donate and has not donated yet.
    pub(crate) asked: u64,
}

impl GuestSubscription {
    pub(crate) fn new(
        owner: Owner,
        topic: String,
        source: Box<dyn SubscriptionSource>,
        reliable: bool,
        isolation: Isolation,
        held_blocks: HeldBlocks,
        policy: LimitPolicy,
    ) -> Self {
        let deliveries = Deliveries::new(source, reliable, held_blocks, policy.clone());
        Self { owner, topic, isolation, policy, deliveries, asked: 0 }
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// The deliveries, read-only.
    pub(crate) fn deliveries(&self) -> &Deliveries<ArenaWindow> {
        &self.deliveries
    }

    /// The deliveries and the address space that shows them.
    #[inline]
    fn parts<'a>(
        &'a mut self,
        windows: &'a mut Windows,
    ) -> (&'a mut Deliveries<ArenaWindow>, SubscriptionWindows<'a>) {
        let address_space = SubscriptionWindows { windows, owner: self.owner, isolation: self.isolation };
        (&mut self.deliveries, address_space)
    }

    /// Bytes of address space to donate so that the arena of every known publisher can be mapped.
    pub(crate) fn minimum_size(&mut self, windows: &mut Windows) -> Result<u32, Error> {
        let (deliveries, mut address_space) = self.parts(windows);
        deliveries.admit(&mut address_space)?;
        let alignment =
            |channel| if self.isolation == Isolation::Arena { alignment_of(channel) } else { GRANULE };
        let extents = self
            .deliveries
            .hidden()
            .map(|channel| Extent::new(channel.arena().len() as u64).aligned(alignment(channel)));
        let missing = windows.missing(self.owner, extents);
        self.asked = missing;
        // More than 4 GiB cannot be donated; donating them would be refused.
        Ok(u32::try_from(missing).unwrap_or(u32::MAX << 16))
    }

    /// Accepts address space, and maps waiting arenas into it.
    pub(crate) fn add_storage(&mut self, windows: &mut Windows, area: Area) -> Result<(), Error> {
        if let Err(error) = windows.donate(self.owner, area) {
            if matches!(error, WindowError::Budget) {
                self.policy.note(Limit::Windows);
            }
            return Err(error.into());
        }
        self.asked = self.asked.saturating_sub(u64::from(area.size));
        let (deliveries, mut address_space) = self.parts(windows);
        deliveries.admit(&mut address_space)
    }

    /// Gives unused address space back.
    pub(crate) fn remove_storage(&mut self, windows: &mut Windows, area: Area) -> Result<(), Error> {
        Ok(windows.reclaim(self.owner, area)?)
    }

    /// Releases deliveries before `released_before`, then writes records of new messages into `batch`.
    pub(crate) fn poll(
        &mut self,
        windows: &mut Windows,
        limits: &ComponentLimits,
        batch: Area,
        released_before: u64,
    ) -> Result<u32, Error> {
        let target =
            if batch.size == 0 { std::ptr::null_mut() } else { windows.ordinary(batch)?.cast::<Record>() };
        if !batch.address.is_multiple_of(align_of::<Record>() as u32) || (1..RECORD).contains(&batch.size) {
            return Err(Error::WrongSize);
        }
        let (deliveries, mut address_space) = self.parts(windows);
        // SAFETY: that many records fit into ordinary memory of the guest, which is accessible and which
        // nobody else touches during a host call. `target` is aligned to 8: memories start at a page, and the
        // address was checked.
        unsafe { deliveries.poll(&mut address_space, limits, (target, batch.size / RECORD), released_before) }
    }

    /// Keeps one delivery beyond its release.
    pub(crate) fn hold(&mut self, windows: &mut Windows, index: u64) -> Result<u32, Error> {
        let (deliveries, mut address_space) = self.parts(windows);
        deliveries.hold(&mut address_space, index)
    }

    /// Gives a hold back.
    pub(crate) fn unhold(&mut self, windows: &mut Windows, hold: u32) -> Result<(), Error> {
        let (deliveries, mut address_space) = self.parts(windows);
        deliveries.unhold(&mut address_space, hold)
    }

    /// Ends delivery, but keeps the holds.
    pub(crate) fn leave(&mut self, windows: &mut Windows) {
        let (deliveries, mut address_space) = self.parts(windows);
        deliveries.leave(&mut address_space);
    }

    /// Takes the address space back. After that, the subscription can be dropped.
    pub(crate) fn withdraw(&mut self, windows: &mut Windows) {
        windows.withdraw(self.owner);
    }

    /// Adds publishers that joined, to bound their number even if the guest does not poll.
    pub(crate) fn join(&mut self) {
        self.deliveries.join();
    }

    /// Announces that the guest is about to sleep, until `waker` is called. Returns `true` if it has a reason
    /// not to.
    pub(crate) fn arm(&mut self, waker: &Waker) -> bool {
        self.deliveries.arm(waker)
    }
}

impl fmt::Debug for GuestSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestSubscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}
