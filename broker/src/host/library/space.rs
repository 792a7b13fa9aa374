//! Deliveries where they are: a native component shares the host's addresses.

use std::sync::Arc;

use blockcast_blocks::Channel;
use blockcast_blocks::abi::{Error, Record};

use crate::hosting::address_space::{AddressSpace, ArenaView, Delivery, NO_MESSAGE};

/// The addresses of this process: every arena is visible, and nothing has to be done for it.
#[derive(Debug)]
pub(crate) struct ThisProcess;

/// Where a publisher's arena begins.
#[derive(Debug, Default)]
pub(crate) struct Base(Option<*const u8>);

// SAFETY: a number, which nobody looks behind here.
unsafe impl Send for Base {}
// SAFETY: as above.
unsafe impl Sync for Base {}

impl AddressSpace for ThisProcess {
    type ArenaView = Base;

    unsafe fn open(&mut self, view: &mut Base, channel: &Arc<Channel>) -> Result<bool, Error> {
        view.0 = Some(channel.arena().base().as_ptr());
        Ok(true)
    }

    fn close(&mut self, _sight: Base) {}
}

impl ArenaView for Base {
    type Record = Record;

    #[inline]
    fn is_open(&self) -> bool {
        self.0.is_some()
    }

    #[inline]
    fn record(&self, delivery: Delivery) -> Record {
        let Delivery { sequence, time, offset, length, publisher, lost } = delivery;
        let base = self.0.unwrap_or(std::ptr::null());
        Record {
            sequence,
            time,
            address: base.wrapping_add(offset as usize),
            length,
            publisher,
            lost,
            reserved: 0,
        }
    }

    fn loss(publisher: u32, lost: u32) -> Record {
        Record { sequence: NO_MESSAGE, publisher, lost, ..Record::default() }
    }
}
