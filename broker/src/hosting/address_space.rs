//! How a component reaches the blocks of the publishers that it subscribes to: [`AddressSpace`] and
//! [`ArenaView`].

use std::sync::Arc;

use blockcast_blocks::Channel;
use blockcast_blocks::abi::Error;

/// Where a component sees one publisher's arena. The default is nowhere yet.
pub(crate) trait ArenaView: Default {
    /// Reports one delivery to the component.
    type Record;

    /// Whether the arena is visible.
    fn is_open(&self) -> bool;

    /// The record of a delivery from the arena, which is visible.
    fn record(&self, delivery: Delivery) -> Self::Record;

    /// The record of a loss that no message follows yet.
    fn loss(publisher: u32, lost: u32) -> Self::Record;
}

/// The address space in which a component reads deliveries: a guest's windows, or the process itself.
pub(crate) trait AddressSpace {
    /// Where it shows an arena.
    type ArenaView: ArenaView;

    /// Makes an arena visible until it is [closed](Self::close). Returns `false` if there is no room for it.
    ///
    /// # Safety
    /// The caller keeps the channel alive and the arena's file open until `view` is closed or the component
    /// has ended.
    unsafe fn open(&mut self, view: &mut Self::ArenaView, channel: &Arc<Channel>) -> Result<bool, Error>;

    /// Whether messages must be shown and hidden one by one.
    fn is_selective(&self) -> bool {
        false
    }

    /// Makes one message visible, if messages are shown one by one. Returns how many bytes it copied.
    ///
    /// # Safety
    /// `view` is open and belongs to this channel. The message stays attached until it has been hidden as
    /// often as it was shown.
    unsafe fn show(
        &mut self,
        _view: &mut Self::ArenaView,
        _channel: &Channel,
        _offset: u64,
        _len: u32,
    ) -> Result<u64, Error> {
        Ok(0)
    }

    /// Adds a reason to keep showing a message that is shown.
    fn retain(&mut self, _view: &mut Self::ArenaView, _offset: u64) {}

    /// Removes one reason to show a message, and hides it with the last one.
    fn hide(&mut self, _view: &mut Self::ArenaView, _offset: u64) {}

    /// Makes an arena invisible.
    fn close(&mut self, view: Self::ArenaView);
}

/// Sequence of a record that reports a loss which no message follows yet.
pub(crate) const NO_MESSAGE: u64 = u64::MAX;

/// A component's description of one delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    /// Offset of the message in the arena.
    pub(crate) offset: u64,
    /// Bits 0 to 30: bytes of the message. Bit 31: they are known to be valid.
    pub(crate) length: u32,
    pub(crate) publisher: u32,
    pub(crate) lost: u32,
}
