//! How a [`Writer`] finds a block: a free one, one that comes free, or one of a pool that grows.

use std::hint::cold_path;
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::time::Instant;

use super::{TakenBlock, Writer};
use crate::engine::ring::producer::{Producer, Reach, Unfinished};
use crate::engine::segment::words::UNUSED;
use crate::engine::shield::event;
use crate::engine::wake::park;
use crate::error::LoanError;
use crate::payload::BLOCK_ALIGNMENT;
use crate::primitive::Ordering;

/// Cache lines that are taken back from other processes at a time: half of a small first-level cache.
const LINES_TAKEN_BACK: u64 = 256;

impl Writer {
    #[inline(always)]
    pub(super) fn take_block(&mut self, len: usize) -> Result<TakenBlock, LoanError> {
        if len <= self.block_size
            && let Some(unit) = self.producer.pop_named()
        {
            debug_assert!(self.uniform && !self.hottest, "the ring's queue is for one size, oldest first");
            return Ok(TakenBlock { unit, capacity: self.block_size });
        }
        self.take_unusually(len)
    }

    /// Like [`take_block`](Self::take_block), if it takes more than the next block of the ring's queue.
    #[inline(never)]
    fn take_unusually(&mut self, len: usize) -> Result<TakenBlock, LoanError> {
        if self.is_beyond_limit(len) {
            return self.refuse(len);
        }
        if !self.hottest {
            return self.take_oldest(len);
        }
        if self.loans_to_scan > 0 {
            self.loans_to_scan -= 1;
            return match self.producer.pop_spare(len) {
                Some((unit, capacity)) => Ok(TakenBlock { unit, capacity }),
                None => self.pop_spare(len),
            };
        }
        if !self.producer.is_announced() {
            cold_path();
            return self.pop_spare_after(Unfinished::Reclamation, len);
        }
        match self.producer.take_passed() {
            Ok(unit) => {
                self.loans_to_scan = self.loans_per_scan - 1;
                Ok(TakenBlock { unit, capacity: self.block_size })
            }
            Err(unfinished) => self.pop_spare_after(unfinished, len),
        }
    }

    #[inline(never)]
    fn take_oldest(&mut self, len: usize) -> Result<TakenBlock, LoanError> {
        match self.producer.pop_oldest() {
            Some(unit) => Ok(TakenBlock { unit, capacity: self.block_size }),
            None => self.pop_spare(len),
        }
    }

    /// Like [`pop_spare`](Self::pop_spare), after the scan for the hottest block.
    #[inline(never)]
    fn pop_spare_after(&mut self, unfinished: Unfinished, len: usize) -> Result<TakenBlock, LoanError> {
        self.announce()?;
        self.producer.finish(unfinished);
        self.loans_to_scan = self.loans_per_scan - 1;
        self.pop_spare(len)
    }

    /// Whether no block is that large. In a forked child, all are too small.
    pub(super) fn is_beyond_limit(&self, len: usize) -> bool {
        // Ordering: Relaxed; written when the channel was created.
        len as u64 >= self.producer.control().header().state.limit.load(Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, len: usize) -> Result<TakenBlock, LoanError> {
        if self.channel.is_inherited() {
            return Err(LoanError::Forked);
        }
        Err(LoanError::TooLarge { needed: len, block_size: self.block_size })
    }

    /// Takes a block out of the pool, or what else it takes to get one.
    #[inline(never)]
    fn pop_spare(&mut self, len: usize) -> Result<TakenBlock, LoanError> {
        let taken = |(unit, capacity)| TakenBlock { unit, capacity };
        if let Some(spare) = self.producer.pop_spare(len) {
            return Ok(taken(spare));
        }
        // Subscribers release messages of a batch only once they see them.
        self.announce()?;
        let Self { producer, .. } = self;
        // Ordering: Relaxed; for those who look who holds the publisher back.
        self.channel.wanted.store(UNUSED, Ordering::Relaxed);
        loop {
            let watermark = producer.watermark();
            let freed = producer.reclaim(Reach::Overtake(self.overtake));
            if producer.has_annexes() {
                take_lines_back(producer, self.base);
            }
            if let Some(unit) = producer.pop_oldest() {
                return Ok(TakenBlock { unit, capacity: self.block_size });
            }
            if let Some(spare) = producer.pop_spare(len) {
                return Ok(taken(spare));
            }
            // Overtaken subscribers may still be attached to everything that was given up, or the blocks that
            // came free are too small: go on to what they are not attached to.
            if freed == 0 && producer.watermark() == watermark && producer.revoke() == 0 {
                break;
            }
        }
        if producer.grow(len)
            && let Some(spare) = producer.pop_spare(len)
        {
            let (publisher, blocks) = (self.channel.publisher(), producer.pool().blocks());
            event(|| tracing::debug!(%publisher, blocks, "pool grown"));
            return Ok(taken(spare));
        }
        self.channel.wanted.store(producer.head(), Ordering::Relaxed);
        producer.note_loaned(0);
        if !self.counted {
            producer.note_exhausted();
        }
        Err(LoanError::Exhausted { blocks: producer.pool().blocks() })
    }

    pub(super) fn poll_block(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
    ) -> Poll<Result<TakenBlock, LoanError>> {
        match self.take_block(len) {
            Err(LoanError::Exhausted { .. }) => {}
            other => return Poll::Ready(other),
        }
        self.counted = true;
        self.channel.publisher.register(cx.waker());
        let (producer, signal) = (&mut self.producer, &self.channel.publisher);
        if !park::with_watch_list(cx.waker(), |list| producer.arm_for_space(list, signal)) {
            // As in `Reader::arm`.
            signal.wake();
        }
        match self.take_block(len) {
            Err(LoanError::Exhausted { .. }) => Poll::Pending,
            other => Poll::Ready(other),
        }
    }

    #[cold]
    pub(super) fn wait_for_block(
        &mut self,
        len: usize,
        deadline: Option<Instant>,
    ) -> Result<TakenBlock, LoanError> {
        let loan = self.one_loan(true);
        let mut found = None;
        let _ = park::spin(|| {
            found = match loan.0.take_block(len) {
                Err(LoanError::Exhausted { .. }) => None,
                other => Some(other),
            };
            found.is_some()
        });
        let found = found.or_else(|| park::until(deadline, |cx| loan.0.poll_block(cx, len)));
        found.unwrap_or(Err(LoanError::Deadline))
    }
}

/// Takes the first cache line of each block that is free back from the subscribers of other processes, all
/// of them at once. Leaves the bytes as they are.
///
/// These subscribers map the blocks read-only. A processor then keeps a line that they have read in both
/// caches, where it would pass it on if they could write it. The publisher's next store to the line waits
/// until the other copy is gone. If each message waits for that, it takes three times as long as within one
/// process (measured on AMD EPYC, where prefetching for a store does not help). So all stores wait together,
/// before the first message.
fn take_lines_back(producer: &Producer, base: NonNull<u8>) {
    for unit in producer.next_free(LINES_TAKEN_BACK) {
        // SAFETY: units come from the pool, whose blocks all lie within the arena.
        let first = unsafe { base.add(unit as usize * BLOCK_ALIGNMENT) };
        // SAFETY: within the arena, as above, and initialised (a memfd starts as zeros). The block is free,
        // so nobody else accesses it.
        let byte = unsafe { first.read_volatile() };
        // SAFETY: as above. Volatile, because the value does not change.
        unsafe { first.write_volatile(byte) };
    }
}
