//! A native component's address space is the process's: deliveries are read where they lie.

use std::sync::Arc;

use blockcast_blocks::Channel;
use blockcast_blocks::abi::{Error, Record};

use crate::hosting::address_space::{AddressSpace, ArenaView, Delivery, NO_MESSAGE};

/// The address space of this process, in which every arena is already mapped.
#[derive(Debug)]
pub(crate) struct ThisProcess;

/// The first byte of a publisher's arena.
#[derive(Debug, Default)]
pub(crate) struct ArenaBase(Option<*const u8>);

// SAFETY: the pointer is never dereferenced here.
unsafe impl Send for ArenaBase {}
// SAFETY: as above.
unsafe impl Sync for ArenaBase {}

impl AddressSpace for ThisProcess {
    type ArenaView = ArenaBase;

    unsafe fn open(&mut self, view: &mut ArenaBase, channel: &Arc<Channel>) -> Result<bool, Error> {
        view.0 = Some(channel.arena().base().as_ptr());
        Ok(true)
    }

    fn close(&mut self, _view: ArenaBase) {}
}

impl ArenaView for ArenaBase {
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
