//! Message records, and the address space in which the host maps their blocks.

use std::sync::Mutex;

use super::types::{self, Error, MemoryArea, SubscriptionOptions};
use super::window::{self, Windows};
use super::{Runtime, topics};
use crate::options::{Overflow, ReaderOptions};
use crate::payload::schema::Schema;

/// A message record as the host writes it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub(in super::super) struct Record {
    pub(in super::super) sequence: u64,
    pub(in super::super) time: u64,
    address: u32,
    pub(in super::super) length: u32,
    pub(in super::super) publisher: u32,
    pub(in super::super) lost: u32,
}

const _: () = assert!(size_of::<Record>() == 32, "the size that the WIT package states");

impl Record {
    /// The message's address.
    pub(in super::super) fn address(&self) -> u64 {
        u64::from(self.address)
    }
}

/// A subscription's handle, and the address space that it uses. Dropped in this order.
pub(in super::super) struct Deliveries {
    handle: topics::Subscription,
    windows: Mutex<Windows>,
}

impl Deliveries {
    /// Subscribes to `topic`.
    pub(in super::super) fn open(
        _host: &Runtime,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        _name: &str,
    ) -> Result<Self, Error> {
        let options = SubscriptionOptions {
            overflow: match options.overflow {
                Overflow::Block => types::Overflow::Block,
                Overflow::DropOldest => types::Overflow::DropOldest,
                Overflow::DropNewest => types::Overflow::DropNewest,
            },
            history: u32::try_from(options.history).unwrap_or(u32::MAX),
            depth: options.depth.unwrap_or(0),
        };
        let handle = topics::Subscription::open(topic, schema.name(), schema.fingerprint(), options)?;
        Ok(Self { handle, windows: Mutex::default() })
    }

    pub(in super::super) fn handle(&self) -> &topics::Subscription {
        &self.handle
    }

    /// Releases all deliveries before number `released`, then asks for records of new messages. Donates
    /// address space to the host if it has none for the blocks.
    pub(in super::super) fn poll(&self, batch: &mut [Record], released: u64) -> Result<u32, Error> {
        let size = size_of_val(batch) as u32;
        // The host writes the records behind the compiler's back, hence through an exposed pointer.
        let address = batch.as_mut_ptr().expose_provenance() as u32;
        loop {
            match self.handle.poll(MemoryArea { address, size }, released) {
                Err(Error::NoStorage) => self.donate()?,
                other => return other,
            }
        }
    }

    /// Releases all deliveries before number `released`.
    pub(in super::super) fn release(&self, released: u64) {
        // The host repeats any other error when the next batch is requested.
        let _ = self.handle.poll(MemoryArea { address: 0, size: 0 }, released);
    }

    /// Donates the address space that the host says it needs.
    fn donate(&self) -> Result<(), Error> {
        let needed = self.handle.minimum_size();
        if needed == 0 {
            return Err(Error::Internal); // the host contradicts itself; asking again would not end
        }
        let area = Windows::reserve(needed).ok_or(Error::NoStorage)?;
        if let Err(error) = self.handle.add_storage(area) {
            window::hand_back(area);
            return Err(error);
        }
        if let Ok(mut windows) = self.windows.lock() {
            windows.donated(area);
        }
        Ok(())
    }
}
