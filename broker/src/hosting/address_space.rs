//! How a component reaches the blocks of the publishers that it subscribes to: [`AddressSpace`] and [`ArenaView`].

use std::sync::Arc;

use blockcast_blocks::Channel;

use blockcast_blocks::abi::Error;

/// Where one publisher's arena is seen. The default: nowhere yet.
pub(crate) trait ArenaView: Default {
    /// How a delivery is told.
    type Record;

    /// Whether the arena is visible.
    fn is_open(&self) -> bool;

    /// Tells of a delivery from the arena, which is visible.
    fn record(&self, delivery: Delivery) -> Self::Record;

    /// Tells of a loss which no message follows yet.
    fn loss(publisher: u32, lost: u32) -> Self::Record;
}

/// The address space in which deliveries are read: a guest's windows, or the process itself.
pub(crate) trait AddressSpace {
    /// How it shows an arena.
    type ArenaView: ArenaView;

    /// Makes an arena visible; false if there is no room for it. It stays so until it is [closed](Self::close).
    ///
    /// # Safety
    /// The caller keeps the channel, and the arena's file open, until `sight` is closed, or until the component has ended.
    unsafe fn open(&mut self, sight: &mut Self::ArenaView, channel: &Arc<Channel>) -> Result<bool, Error>;

    /// Whether messages must be shown and hidden one by one.
    fn is_selective(&self) -> bool {
        false
    }

    /// Makes a message visible, where they are shown one by one. Returns how many bytes were copied for it.
    ///
    /// # Safety
    /// `sight` is open, and of this channel. The message stays attached until it is hidden as often as it was shown.
    unsafe fn show(
        &mut self,
        _sight: &mut Self::ArenaView,
        _channel: &Channel,
        _offset: u64,
        _len: u32,
    ) -> Result<u64, Error> {
        Ok(0)
    }

    /// One more reason to go on showing what is shown.
    fn keep(&mut self, _sight: &mut Self::ArenaView, _offset: u64) {}

    /// One reason less.
    fn hide(&mut self, _sight: &mut Self::ArenaView, _offset: u64) {}

    /// Takes an arena out of sight.
    fn close(&mut self, sight: Self::ArenaView);
}

/// The sequence of a record that tells of a loss which no message follows yet.
pub(crate) const NO_MESSAGE: u64 = u64::MAX;

/// What a component is told of one delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    /// Where in the arena it lies.
    pub(crate) offset: u64,
    /// Bits 0 to 30: its bytes; bit 31: they are known to be valid.
    pub(crate) length: u32,
    pub(crate) publisher: u32,
    pub(crate) lost: u32,
}
