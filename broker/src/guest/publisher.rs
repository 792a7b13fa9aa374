//! A guest's publisher: copies what the guest has built into a block, once, and publishes it.

use std::fmt;
use std::task::{Context, Poll};

use blockcast_blocks::LoanError;

use super::abi::{Error, PublisherStats};
use super::exchange::Outlet;
use super::window::{Area, Windows};

/// A publisher of a guest.
pub(crate) struct GuestPublisher {
    outlet: Box<dyn Outlet>,
    stats: PublisherStats,
    /// Length of the message for which there was no block.
    refused: Option<usize>,
    /// Subscribers when the guest last looked.
    subscribers: u32,
    /// Bytes of its blocks.
    bytes: u64,
}

impl GuestPublisher {
    pub(crate) fn new(mut outlet: Box<dyn Outlet>) -> Self {
        let subscribers = outlet.subscribers();
        let bytes = outlet.writer().0.channel().arena().len() as u64;
        Self { outlet, stats: PublisherStats::default(), refused: None, subscribers, bytes }
    }

    /// Bytes of its blocks.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn block_size(&mut self) -> u32 {
        u32::try_from(self.outlet.writer().0.block_size()).unwrap_or(u32::MAX)
    }

    /// Publishes a copy of the bytes of `message`: copied once, then checked where the guest cannot change them any more.
    pub(crate) fn publish(&mut self, windows: &Windows, message: Area) -> Result<u64, Error> {
        let source = windows.ordinary(message)?;
        let len = message.size as usize;
        let (writer, validator) = self.outlet.writer();
        let mut loan = match writer.try_loan(len) {
            Ok(loan) => loan,
            Err(LoanError::TooLarge { .. }) => return Err(Error::TooLarge),
            Err(_) => {
                self.refused = Some(len);
                self.stats.exhausted += 1;
                return Err(Error::Exhausted);
            }
        };
        let block = loan.get_mut(..len).ok_or(Error::Internal)?;
        // SAFETY: `len` accessible bytes of the guest's ordinary memory, which nobody else touches during a host call; the
        // block is exclusively ours and lies in another mapping.
        unsafe { source.copy_to_nonoverlapping(block.as_mut_ptr(), len) };
        self.stats.copied += u64::from(message.size);
        let valid = match validator.map(|validate| validate(block)) {
            Some(Ok(())) => true,
            Some(Err(_)) => return Err(Error::InvalidPayload),
            None => false,
        };
        let published = if valid {
            // SAFETY: the topic's validator has just accepted these bytes, where the guest cannot reach them.
            unsafe { loan.publish_valid(len) }
        } else {
            loan.publish(len)
        };
        let sequence = published.map_err(|_| Error::TooLarge)?;
        self.stats.published += 1;
        self.stats.bytes += u64::from(message.size);
        Ok(sequence.get())
    }

    /// How many subscribers there are.
    pub(crate) fn subscribers(&mut self) -> u32 {
        self.subscribers = self.outlet.subscribers();
        self.subscribers
    }

    /// How many messages can be published now.
    pub(crate) fn free_blocks(&mut self) -> u32 {
        let writer = self.outlet.writer().0;
        if writer.pool().free == 0 {
            // A loan looks further than `reclaim`: it overtakes subscribers that allow it. Dropped, it stays free.
            drop(writer.try_loan(0));
        }
        let free = writer.pool().free;
        if free == 0 {
            self.refused = Some(0);
        }
        self.stats.free_blocks = free;
        free
    }

    /// Announces that the guest is about to sleep, and says whether it has reason not to.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(len) = self.refused
            && let Poll::Ready(_) = self.outlet.writer().0.poll_loanable(cx, len)
        {
            self.refused = None;
            return true;
        }
        let subscribers = self.outlet.subscribers();
        std::mem::replace(&mut self.subscribers, subscribers) != subscribers
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        self.stats
    }
}

impl fmt::Debug for GuestPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestPublisher").field("stats", &self.stats).finish_non_exhaustive()
    }
}
