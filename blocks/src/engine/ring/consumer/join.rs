//! How a [`Consumer`] joins.

use super::{Consumer, Pace, missing};
use crate::engine::segment::control::Control;
use crate::engine::segment::words::{UNBOUNDED, UNUSED};
use crate::engine::wake::event_count::QuietRounds;
use crate::primitive::{LoadAcquire as _, Ordering, essential};

/// How often a joiner looks for a watermark that stays. One that the publisher respects needs two or three
/// looks.
const LOOKS: u32 = 1000;

/// How often a joiner reads the watermark of another process, which may change it all the time. Each read
/// takes a barrier that interrupts every processor of the machine.
const REMOTE_LOOKS: u32 = 16;

impl Consumer {
    /// Joins with the cursor of this index, which is unused and nobody else's. Starts with up to `history`
    /// earlier messages, if the channel still has them. Every message published after this returns will be
    /// received, or counted as lost if the pace allows it. Returns `None`, and leaves the cursor unused, if
    /// the system refuses a barrier that reaches the publisher, or if the publisher does not respect the
    /// claim.
    pub(crate) fn join(control: &Control, index: u32, pace: Pace, history: u64) -> Option<Self> {
        let (window, depth) = match pace {
            Pace::Reliable => (UNBOUNDED, UNBOUNDED),
            Pace::Overtakable { window, depth } => (window.max(1), depth.max(1)),
            Pace::Keeping { depth } => (depth.max(1), UNBOUNDED),
        };
        let cursor = control.cursor(index);
        let (header, line) = (cursor.header(), cursor.line());
        let joined = &control.side().words().joined;
        if pace != Pace::Reliable {
            // Ordering: made visible by the barrier below, before the first claim.
            joined.claimers.fetch_add(1, Ordering::Relaxed);
        }
        // Claim everything, reliably, until the place to start at is known.
        line.high.store(UNBOUNDED, Ordering::Relaxed);
        line.taken.store(UNBOUNDED, Ordering::Relaxed);
        essential!(start_unknown, line.start.store(UNUSED, Ordering::Relaxed));
        // Ordering: Relaxed suffices before the fence below; `fetch_max` because cursors join in any order.
        joined.cursors_used.fetch_max(index + 1, Ordering::Relaxed);
        let waits = control.remote().is_none_or(|publisher| publisher.may_block());
        let looks = if control.remote().is_some() { REMOTE_LOOKS } else { LOOKS };
        let mut watermark = header.state.watermark.load_acquire();
        for look in 1.. {
            // Ordering: Release orders `high` before `low`: who sees this `low` sees UNBOUNDED.
            line.low.store(watermark, Ordering::Release);
            // Ordering: pairs with the light barrier in `Producer::announce`: its second scan sees this
            // claim, or we see its watermark.
            if !essential!(join_fence, cursor.fence_publisher()) || look > looks {
                cursor.vacate(pace != Pace::Reliable);
                return None;
            }
            let now = header.state.watermark.load_acquire();
            let stays = now == watermark;
            watermark = now;
            // A publisher that does not wait may go on past the claim. The claim still covers everything from
            // the watermark on that was seen now.
            if stays || !waits {
                break;
            }
        }
        let head = header.head.next.load_acquire();
        let next = head.saturating_sub(history).max(watermark);
        line.bytes.store(0, Ordering::Relaxed);
        line.lost.store(0, Ordering::Relaxed);
        line.holds.store(0, Ordering::Relaxed);
        line.jump_to.store(UNUSED, Ordering::Relaxed);
        line.jump_lost.store(0, Ordering::Relaxed);
        line.missing.store(0, Ordering::Relaxed);
        if matches!(pace, Pace::Overtakable { .. }) {
            line.taken.store(next, Ordering::Relaxed);
        }
        line.low.store(next, Ordering::Release);
        let high = next.saturating_add(window);
        // Ordering: Release; an interval may always shrink.
        line.high.store(high, Ordering::Release);
        // Ordering: pairs with the load in `Cursor::joined_at`: who counts this subscriber publishes what it
        // will receive.
        line.start.store(next, Ordering::Release);
        let checked = control.remote().is_some();
        let missing = missing::Reported::at_join(control, next, head);
        let special = checked || missing.is_some();
        Some(Self {
            next,
            head,
            cursor,
            high: if special { high.min(UNBOUNDED - 1) } else { high },
            word: 0,
            time: 0,
            window,
            depth,
            keeping: matches!(pace, Pace::Keeping { .. }).then(Box::default),
            lost: 0,
            missing,
            rounds: QuietRounds::default(),
            reliable: pace == Pace::Reliable,
            checked,
            special,
            ended: None,
        })
    }
}
