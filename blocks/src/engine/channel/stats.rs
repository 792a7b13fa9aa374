//! The counters of a [`Channel`].

use super::Channel;
use crate::descriptor::len_of;
use crate::engine::segment::words::{Cursor, UNUSED};
use crate::primitive::{LoadAcquire as _, Ordering};
use crate::stats::{ChannelStats, ReaderStats};
use crate::units::Sequence;

impl Channel {
    /// A snapshot of the counters. Loads, and one lock of the control plane. Exact while the channel is idle.
    ///
    /// Lists the subscribers of attached processes too, under their process's
    /// [name](crate::AnnexTerms::name). Only their own process counts the samples that they keep.
    #[must_use]
    pub fn stats(&self) -> ChannelStats {
        if self.is_inherited() {
            // Threads of the parent may have held the locks when it forked.
            let (publisher, name) = (self.publisher(), self.publisher.name().to_owned());
            return ChannelStats { publisher, name, closed: true, ..ChannelStats::default() };
        }
        let (header, side) = (self.control().header(), self.control().side());
        let published = header.head.next.load_acquire();
        let pool = &header.pool;
        let blocks = pool.blocks.load(Ordering::Relaxed);
        let limbo = pool.limbo.load(Ordering::Relaxed);
        let watermark = header.state.watermark.load(Ordering::Relaxed);
        let unreclaimed = u32::try_from(published.saturating_sub(watermark)).unwrap_or(u32::MAX);
        let oldest = pool.oldest_kept.load(Ordering::Relaxed);
        let joined = self.lock_subscribers();
        let cursors = side.used_cursors().iter().zip(&joined.signals);
        let here = cursors.filter_map(|(line, signal)| {
            reader_stats(line, published, signal.as_ref()?.name(), signal.as_ref()?.wakes())
        });
        let mut subscribers: Vec<_> = here.collect();
        drop(joined);
        if let Some(annexes) = self.control().annexes() {
            annexes.each(|annex| {
                let cursors = annex.side().used_cursors().iter();
                subscribers
                    .extend(cursors.filter_map(|line| reader_stats(line, published, &annex.terms().name, 0)));
            });
        }
        ChannelStats {
            publisher: self.publisher(),
            name: self.publisher.name().to_owned(),
            published,
            bytes: self.published_bytes(published),
            blocks,
            max_blocks: self.layout().blocks,
            free: blocks.saturating_sub(unreclaimed).saturating_sub(limbo),
            loaned: pool.loaned.load(Ordering::Relaxed),
            limbo,
            holds: side.words().held.load(Ordering::Relaxed),
            held: side.holds().iter().filter(|count| count.load(Ordering::Relaxed) != 0).count() as u32,
            oldest_kept: (limbo > 0 && oldest != UNUSED).then(|| Sequence::new(oldest)),
            exhausted: pool.exhausted.load(Ordering::Relaxed),
            wakes: self.publisher.wakes(),
            relay: self.config().relay,
            missing: header.state.missing.load(Ordering::Relaxed),
            closed: self.is_closed(),
            subscribers,
            holders: self.holders(),
        }
    }

    /// Bytes of the `published` messages.
    ///
    /// A publisher counts the bytes of messages just before it publishes them. If its process was killed in
    /// between, they count messages that never existed. Then this counts the slots since its latest
    /// reclamation, which it has not overwritten.
    fn published_bytes(&self, published: u64) -> u64 {
        let control = self.control();
        let (header, pool) = (control.header(), &control.header().pool);
        let bytes = header.head.bytes.load(Ordering::Relaxed);
        let killed = control.is_publisher_gone() && header.state.closed.load(Ordering::Relaxed) == 0;
        let counted_to = pool.counted_to.load(Ordering::Relaxed);
        let room = published
            .checked_sub(counted_to)
            .and_then(|since| u64::from(control.geometry().slots).checked_sub(since));
        let Some(room) = room.filter(|_| killed) else { return bytes };
        let len = |sequence| len_of(control.slot(sequence).word.load(Ordering::Relaxed));
        let counted = pool.counted_bytes.load(Ordering::Relaxed);
        let counted = (counted_to..published).fold(counted, |sum, sequence| sum.wrapping_add(len(sequence)));
        let mut unpublished = 0_u64;
        let counted_more = (0..room).any(|index| {
            unpublished = unpublished.wrapping_add(len(published.wrapping_add(index)));
            counted == bytes.wrapping_sub(unpublished)
        });
        // Otherwise it was killed elsewhere, and the number is right.
        if counted_more { counted } else { bytes }
    }
}

/// The counters of a subscriber, if it has joined and not left.
pub(in crate::engine) fn reader_stats(
    line: &Cursor,
    published: u64,
    name: &str,
    wakes: u64,
) -> Option<ReaderStats> {
    let start = line.joined_at()?;
    let low = line.low.load_acquire();
    if low == UNUSED {
        return None;
    }
    let lost = line.lost_messages();
    Some(ReaderStats {
        name: name.to_owned(),
        // A subscriber of another process may have written anything.
        received: low.saturating_sub(start.saturating_add(lost)),
        bytes: line.bytes.load(Ordering::Relaxed),
        lost: lost.saturating_add(line.missing.load(Ordering::Relaxed)),
        counted_holds: line.holds.load(Ordering::Relaxed),
        behind: published.saturating_sub(low),
        wakes,
    })
}
