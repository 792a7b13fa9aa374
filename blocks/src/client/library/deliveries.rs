//! A subscription, over the functions of the table.

use super::runtime::Runtime;
use super::types::{Error, SubscriptionStats, answer, quiet_answer};
use crate::abi::{Host, SubscriptionOptions, Text};
use crate::options::ReaderOptions;
use crate::payload::schema::Schema;

pub(in super::super) use crate::abi::Record;

impl Record {
    /// The message's address.
    #[inline(always)]
    pub(in super::super) fn address(&self) -> u64 {
        self.address.expose_provenance() as u64
    }
}

/// A subscription's handle. Closed when it is dropped.
pub(in super::super) struct Deliveries {
    runtime: Runtime,
    subscription: u64,
}

impl Deliveries {
    /// Subscribes to `topic`.
    pub(in super::super) fn open(
        runtime: &Runtime,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        name: &str,
    ) -> Result<Self, Error> {
        let host = runtime.host()?;
        let options = SubscriptionOptions {
            size: size_of::<SubscriptionOptions>() as u32,
            overflow: options.overflow.abi_code(),
            history: u32::try_from(options.history).unwrap_or(u32::MAX),
            depth: options.depth.unwrap_or(0),
            name: Text::of(name),
        };
        let mut subscription = 0;
        // SAFETY: the table is a host's, which was checked, and is called with its context; texts, options
        // and the place for the handle are valid for the call.
        answer(unsafe {
            (host.subscription_open)(
                host.context,
                Text::of(topic),
                Text::of(schema.name()),
                schema.fingerprint(),
                &raw const options,
                &raw mut subscription,
            )
        })?;
        Ok(Self { runtime: runtime.clone(), subscription })
    }

    pub(in super::super) fn handle(&self) -> &Self {
        self
    }

    /// Releases all deliveries before number `released`, then asks for records of new messages.
    pub(in super::super) fn poll(&self, batch: &mut [Record], released: u64) -> Result<u32, Error> {
        let host = self.runtime.host()?;
        let room = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let mut count = 0;
        // SAFETY: as in `open`; the batch has room for that many records.
        answer(unsafe {
            (host.subscription_poll)(
                host.context,
                self.subscription,
                batch.as_mut_ptr(),
                room,
                released,
                &raw mut count,
            )
        })?;
        Ok(count)
    }

    /// Releases all deliveries before number `released`.
    pub(in super::super) fn release(&self, released: u64) {
        // The host repeats any error when the next batch is requested.
        let _ = self.poll(&mut [], released);
    }

    /// Holds a delivery.
    pub(in super::super) fn hold(&self, index: u64) -> Result<u32, Error> {
        let host = self.runtime.host()?;
        let mut hold = 0;
        // SAFETY: as in `open`.
        let status =
            unsafe { (host.subscription_hold)(host.context, self.subscription, index, &raw mut hold) };
        quiet_answer(status).map(|()| hold)
    }

    /// Gives up a hold.
    pub(in super::super) fn unhold(&self, hold: u32) -> Result<(), Error> {
        let host = self.runtime.host()?;
        // SAFETY: as in `open`.
        let status = unsafe { (host.subscription_unhold)(host.context, self.subscription, hold) };
        quiet_answer(status)
    }

    /// Ends delivery, but not the holds.
    pub(in super::super) fn leave(&self) {
        self.call(|host| {
            // SAFETY: as in `open`. What it returns changes nothing.
            let _ = unsafe { (host.subscription_leave)(host.context, self.subscription) };
        });
    }

    /// The counters, or zeros if the host refuses.
    pub(in super::super) fn stats(&self) -> SubscriptionStats {
        let mut stats = SubscriptionStats::default();
        self.call(|host| {
            // SAFETY: as in `open`.
            let _ = unsafe { (host.subscription_stats)(host.context, self.subscription, &raw mut stats) };
        });
        stats
    }

    fn call(&self, call: impl FnOnce(&Host)) {
        if let Ok(host) = self.runtime.host() {
            call(host);
        }
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.call(|host| {
            // SAFETY: as in `open`.
            unsafe { (host.subscription_close)(host.context, self.subscription) };
        });
    }
}
