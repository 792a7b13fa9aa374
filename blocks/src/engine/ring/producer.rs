//! The publisher's half of the protocol: publish, and get blocks back.
//!
//! # Publishing
//! One descriptor, one head word. Nothing depends on the number of subscribers.
//!
//! # Reclaiming
//! The publisher wants to let go of the sequences below some *target*. It
//! 1. scans the cursors for what everyone has passed, which gives the target;
//! 2. announces the target as the new *watermark*, then fences (where all subscribers are reliable, those that join
//!    fence for both, by a process-wide barrier);
//! 3. scans the cursors again for intervals that still cover a sequence below the target.
//!
//! A subscriber that claims an interval stores it, fences, then looks at the watermark. Of the two fences
//! one comes first: either the publisher's second scan sees the claim, or the subscriber sees the watermark
//! and gives the claim up (the argument of hazard pointers: Michael, 2004). Blocks that the second scan
//! finds covered, or that are held by count, wait in *limbo* and nobody waits for them.
//!
//! A claim covers messages that its subscriber has not taken yet, and a subscriber that stalls claims them for
//! ever. It can not take them any more once it sees the watermark, only an unseen take may be on its way. So
//! when nothing else is left, the publisher *revokes*: a process-wide barrier, after which it sees how far
//! each subscriber has begun to take, and whoever begins later sees the watermark.
//!
//! Descriptors below the watermark are overwritten from then on, so a subscriber that is not reliable checks
//! the watermark after it has read a descriptor.
//!
//! # Free blocks
//! As a rule every block below the watermark is free, and the ring itself is the queue of free blocks: the
//! descriptors from `oldest_free` to the watermark name them, oldest first. Then reclaiming moves one number,
//! whatever it frees. Where something is covered or held, where blocks have several sizes, or where the
//! hottest block is wanted, blocks are looked at one by one and free ones go to the pool's stacks.

use crate::descriptor::{Validity, len_of, pack, unit_of};
use crate::direct::Announcement;
use crate::engine::pool::Pool;
use crate::engine::segment::control::Control;
use crate::engine::segment::words::Header;
use crate::engine::wake::event_count::QuietRounds;
use crate::primitive::{Ordering, essential, fence};

mod reclaim;

use reclaim::Limbo;
pub(crate) use reclaim::Reach;

/// The publisher's private state. One per channel.
#[derive(Debug)]
pub(crate) struct Producer {
    head: u64,
    /// Descriptors from here to the watermark name free blocks.
    oldest_free: u64,
    watermark: u64,
    control: Control,
    rounds: QuietRounds,
    bytes: u64,
    /// Messages that stay available to late joiners.
    history: u64,
    /// Free blocks go to the pool one by one, not through the ring.
    one_by_one: bool,
    pool: Pool,
    /// Let go of, but still covered or held.
    limbo: Vec<Limbo>,
    /// Claimed intervals found by the latest second scan; kept for its capacity.
    claims: Vec<(u64, u64)>,
    /// Blocks that were lent to the line and not published yet, as far as the head is known here.
    lined: u32,
    /// The slots of so many sequences before this one name them, in the order in which they are published.
    lent_until: u64,
}

impl Producer {
    /// `hottest`: the block that was freed last is taken first.
    pub(crate) fn new(control: Control, pool: Pool, history: u32, hottest: bool) -> Self {
        control.header().pool.blocks.store(pool.blocks(), Ordering::Relaxed);
        Self {
            head: 0,
            oldest_free: 0,
            watermark: 0,
            control,
            rounds: QuietRounds::default(),
            bytes: 0,
            history: u64::from(history),
            one_by_one: hottest || !pool.is_uniform(),
            pool,
            limbo: Vec::new(),
            claims: Vec::new(),
            lined: 0,
            lent_until: 0,
        }
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Blocks that are let go of but still covered or held.
    pub(crate) fn in_limbo(&self) -> u32 {
        self.limbo.len() as u32
    }

    /// Free blocks, those among them that wait at the line to be published.
    pub(crate) fn free(&self) -> u32 {
        self.queued() + self.pool.spare() + self.lined
    }

    /// Free blocks that the ring names.
    fn queued(&self) -> u32 {
        // Wraps where blocks were put before the first sequence of all.
        self.watermark.wrapping_sub(self.oldest_free) as u32
    }

    /// The oldest sequence that was not let go of.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The sequence that the next publish gets.
    #[inline(always)]
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Takes a free block out of the ring, if blocks are freed that way: all have one size then.
    #[inline(always)]
    pub(crate) fn take_oldest(&mut self) -> Option<u32> {
        if self.oldest_free == self.watermark {
            return None;
        }
        // Ordering: Relaxed; our own store.
        let word = self.control.slot(self.oldest_free).word.load(Ordering::Relaxed);
        self.oldest_free = self.oldest_free.wrapping_add(1);
        Some(unit_of(word))
    }

    /// Whether a block of at least `len` bytes, which the largest have, is known to be free.
    #[inline]
    pub(crate) fn has_free(&self, len: usize) -> bool {
        // What the ring names has the one size that there is.
        self.oldest_free != self.watermark || self.pool.has(len)
    }

    /// Takes a free block of at least `len` bytes out of the pool: its unit and capacity.
    pub(crate) fn take_spare(&mut self, len: usize) -> Option<(u32, usize)> {
        self.pool.take(len)
    }

    /// Takes back a block that was taken and not published.
    pub(crate) fn give_back(&mut self, unit: u32) {
        self.pool.give(unit);
    }

    /// Adds blocks to the pool; false at its limit.
    pub(crate) fn grow(&mut self, len: usize) -> bool {
        let grown = self.pool.grow(len);
        self.control.header().pool.blocks.store(self.pool.blocks(), Ordering::Relaxed);
        grown
    }

    /// Notes how many blocks are neither free nor published nor waited for, but the `in_hand` ones: on loans that were put
    /// aside or forgotten.
    pub(crate) fn note_loaned(&self, in_hand: u32) {
        let published = (self.head - self.watermark) as u32;
        let elsewhere = self.free() + published + self.in_limbo() + in_hand;
        let loaned = self.pool.blocks().saturating_sub(elsewhere);
        self.control.header().pool.loaned.store(loaned, Ordering::Relaxed);
    }

    /// Counts a loan that found no block.
    pub(crate) fn note_exhausted(&self) {
        let exhausted = &self.control.header().pool.exhausted;
        exhausted.store(exhausted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Sets the time of the message that is published next.
    #[inline(always)]
    pub(crate) fn stamp(&self, time: u64) {
        self.control.slot(self.head).stamp(time);
    }

    /// Publishes a block that was taken, under the next sequence. Returns `true` if somebody may sleep: then
    /// [`wakes`](Self::wakes) tells.
    ///
    /// The slot is free: every sequence from `oldest_free` to the head has a block of its own, the caller's block is
    /// none of them, and there are at least as many slots as blocks. The slots that name what the line was lent are not counted in
    /// that: where this may reach them, [`recall`](Self::recall) comes first.
    #[inline(always)]
    pub(crate) fn publish(&mut self, word: u64) -> bool {
        let sequence = self.head;
        debug_assert!(
            sequence.wrapping_sub(self.oldest_named()) < u64::from(self.control.geometry().slots),
            "no free slot"
        );
        self.head = sequence + 1;
        self.bytes += len_of(word);
        let Header { head, state, .. } = self.control.header();
        let announcement = Announcement {
            slot: self.control.slot(sequence),
            next: &head.next,
            bytes: &head.bytes,
            waiters: state.messages.word(),
        };
        announcement.publish(word, self.head, self.bytes)
    }

    /// Whether somebody waits for what was published and must be woken. Looks behind a fence.
    #[cold]
    pub(crate) fn wakes(&mut self) -> bool {
        self.control.header().state.messages.waiter_behind_fence(&mut self.rounds)
    }

    /// Lends up to `most` free blocks to the line, which has none, `taken` among them, which was taken: those that the slots of so many
    /// sequences name. Returns the first of these, and how many.
    ///
    /// The line publishes them in this order, so it has read a name before it is overwritten: as `publish` states, the slot at the head
    /// is at most the one that names the next block of the queue, which the lent ones are the front of.
    pub(crate) fn lend(&mut self, taken: u32, most: u32) -> (u64, u32) {
        debug_assert_eq!(self.lined, 0, "recalled");
        self.put_in_front(taken);
        let most = most.max(1);
        while self.queued() < most
            && let Some((unit, _)) = self.pool.take(0)
        {
            self.put_in_front(unit);
        }
        let first = self.oldest_free;
        self.lined = self.queued().min(most);
        self.lent_until = first.wrapping_add(u64::from(self.lined));
        self.oldest_free = self.lent_until;
        (first, self.lined)
    }

    /// Puts a block that was taken in front of the ring's queue.
    ///
    /// The slot is free, as in [`publish`](Self::publish): it is that of the last sequence for which there are blocks. Who is
    /// still to read what it tells of was overtaken, and finds that out as it does there.
    fn put_in_front(&mut self, unit: u32) {
        self.oldest_free = self.oldest_free.wrapping_sub(1);
        // Where it was taken from, as a rule.
        if self.unit_at(self.oldest_free) != unit {
            let word = pack(unit, 0, Validity::Valid);
            // Ordering: Relaxed; whoever may not take it for a descriptor has seen the watermark pass it.
            self.control.slot(self.oldest_free).word.store(word, Ordering::Relaxed);
        }
    }

    /// The sequence from which on slots name blocks that may be needed.
    fn oldest_named(&self) -> u64 {
        if self.lined == 0 { self.oldest_free } else { self.lent_until.wrapping_sub(u64::from(self.lined)) }
    }

    /// Takes back what was lent to the line and not published. The line stands still, and has no blocks after that.
    pub(crate) fn recall(&mut self) {
        essential!(recall_adopts, self.adopt());
        if self.lent_until == self.oldest_free && !self.one_by_one {
            self.oldest_free = self.oldest_named();
        } else {
            // Others were taken out of the queue behind them, or there is none.
            for before in (1..=u64::from(self.lined)).rev() {
                self.pool.give(self.unit_at(self.lent_until.wrapping_sub(before)));
            }
        }
        self.lined = 0;
    }

    /// Blocks that wait at the line to be published.
    pub(crate) fn lined(&self) -> u32 {
        self.lined
    }

    /// Takes the next block of the line back, as a block that was taken. False: it is another one, or none is lent.
    pub(crate) fn unlend(&mut self, unit: u32) -> bool {
        let lent = self.lined > 0 && self.unit_at(self.oldest_named()) == unit;
        self.lined -= u32::from(lent);
        lent
    }

    /// Lends the block again that was taken back last, if nothing was published, lent or recalled since.
    pub(crate) fn lend_again(&mut self, unit: u32) {
        self.lined += 1;
        debug_assert_eq!(self.unit_at(self.oldest_named()), unit, "not the one that was taken back last");
        self.note_loaned(0);
    }

    /// Takes in what the line has published since. To be called before anything that goes by the head.
    ///
    /// The line may go on meanwhile, in another thread: then what is known here is old, and old is safe. Reclaiming goes as far as the
    /// head that is known. The sequences beyond it have blocks that count as lent here, which nobody else takes: every block is on
    /// one side, and the line gets no further than the blocks that it was lent.
    pub(crate) fn adopt(&mut self) {
        let head = &self.control.header().head;
        // Ordering: Acquire pairs with the line's Release: the descriptors below are visible, which reclaiming reads.
        let next = head.next.load(essential!(adopt_acquire, Ordering::Acquire));
        let published = next.saturating_sub(self.head);
        if published > 0 {
            // Fits: no more than blocks. A line that says otherwise breaks its contract.
            self.lined = self.lined.saturating_sub(u32::try_from(published).unwrap_or(u32::MAX));
            self.head = next;
            // May be ahead of the head, where the line goes on: it counts when this publishes itself, and then it stands still.
            self.bytes = head.bytes.load(Ordering::Relaxed);
        }
    }

    /// Messages that were published and their bytes, whoever has published them.
    pub(crate) fn published(&self) -> (u64, u64) {
        let head = &self.control.header().head;
        // Ordering: Acquire, so that the bytes are at least those of that many messages.
        (head.next.load(Ordering::Acquire), head.bytes.load(Ordering::Relaxed))
    }

    fn unit_at(&self, sequence: u64) -> u32 {
        // Ordering: Relaxed; our own store.
        unit_of(self.control.slot(sequence).word.load(Ordering::Relaxed))
    }

    /// Marks the channel as ended: subscribers drain what is left.
    pub(crate) fn close(&self) {
        // Ordering: Release pairs with the Acquire load in `Consumer::take`: whoever sees the mark sees the
        // last head.
        self.control.header().state.closed.store(1, essential!(close_release, Ordering::Release));
        // Ordering: pairs with the fence in `EventCount::arm`: whoever wakes the subscribers after this finds all that
        // joined, or they find the mark when they look once more.
        fence(Ordering::SeqCst);
    }
}
