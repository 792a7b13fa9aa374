//! Waking without a fence on the hot path: the [`EventCount`] between waiters and notifiers.
//!
//! A waiter announces itself, then checks its condition once more. A notifier makes the condition true, then
//! checks for waiters. Each side stores first and loads second, so neither load may be ordered before its
//! store, or both sides miss each other and the waiter sleeps forever. A full fence on both sides prevents
//! that, and costs the notifier 8 ns per message. An event count therefore has two modes:
//!
//! - *quiet*: nobody has waited lately. The notifier only uses a compiler barrier. A waiter that finds the
//!   event count quiet issues a process-wide barrier (`membarrier`), which fences the notifier from outside.
//! - *fenced*: somebody waited lately. Notifiers and waiters fence, and neither calls the system.
//!
//! A waiter switches to fenced. The notifier returns to quiet after [`ROUNDS_TO_QUIET`] rounds without a
//! waiter. Both modes live in one word, so a switch and an announcement cannot cross: the notifier's
//! compare-exchange fails if a waiter is announced, and a waiter that finds the event count quiet fences for
//! both.
//!
//! Another waiter may come while the first is still on its way to the process-wide barrier. It must not rely
//! on that barrier: a notifier may have checked before the switch, with its message not visible yet. So a
//! fenced event count is only *settled* once the waiter that switched it is past its barrier. Until then,
//! other waiters issue their own, and only a settled event count becomes quiet again.

#[cfg(all(test, loom))]
use crate::direct::may_have_waiters;
use crate::primitive::{AtomicU32, Ordering, asymmetric_barriers, essential, fence, heavy_barrier};

const ARMED: u32 = 1;
const FENCED: u32 = 2;
/// Every notifier that checked before the switch to fenced has passed a fence since.
const SETTLED: u32 = 4;
/// The system has no process-wide barrier: the event count never becomes quiet.
const ALWAYS_FENCED: u32 = 8;
/// Subscribers of other processes may wait. They are announced in their annexes, which a notifier then
/// checks.
const REMOTE: u32 = 32;
/// Set in a forked child, where nobody waits. A notifier then finds out that the channel is not its own.
#[cfg(not(loom))]
const INHERITED: u32 = 16;

/// Notifications without a waiter after which a fenced event count becomes quiet.
const ROUNDS_TO_QUIET: u32 = if cfg!(loom) { 1 } else { 1024 };

/// One word that all waiters and notifiers of one condition share. See the [module](self).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct EventCount {
    word: AtomicU32,
}

/// A notifier's private count of rounds without a waiter.
#[derive(Debug, Default)]
pub(crate) struct QuietRounds(u32);

impl EventCount {
    pub(crate) fn new() -> Self {
        #[cfg(loom)]
        crate::primitive::begin();
        let mode = if asymmetric_barriers() { 0 } else { FENCED | SETTLED | ALWAYS_FENCED };
        Self { word: AtomicU32::new(mode) }
    }

    /// Makes every notifier take the slow path: see [`crate::sys::fork`].
    #[cfg(not(loom))]
    pub(crate) fn look_closer(&self) {
        self.word.store(INHERITED, Ordering::Relaxed);
    }

    /// Makes every notifier check for waiters of other processes from now on.
    pub(crate) fn set_remote(&self) {
        // Ordering: Relaxed; a waiter of another process makes a barrier that reaches the notifier before it
        // relies on this.
        self.word.fetch_or(REMOTE, Ordering::Relaxed);
    }

    /// Call this when no other process takes part any more.
    pub(crate) fn clear_remote(&self) {
        self.word.fetch_and(!REMOTE, Ordering::Relaxed);
    }

    /// Whether a notifier must check for waiters of other processes, and for those of its own.
    pub(crate) fn kinds_of_waiters(&self) -> (bool, bool) {
        // Ordering: Relaxed, as in `may_have_waiters`, after which this is called.
        let word = self.word.load(Ordering::Relaxed);
        (word & REMOTE != 0, word & !REMOTE != 0)
    }

    /// Whether a notifier must check for waiters of other processes, and for nothing else.
    #[inline(always)]
    pub(crate) fn is_remote_only(&self) -> bool {
        // Ordering: Relaxed, as in `kinds_of_waiters`.
        self.word.load(Ordering::Relaxed) == REMOTE
    }

    /// Announces a waiter. The caller has registered how to wake it, and must check its condition once more
    /// before it sleeps. Returns `false` if the system refused a process-wide barrier: then a notifier may
    /// not have seen the announcement, and the caller must not sleep.
    #[must_use]
    pub(crate) fn arm(&self) -> bool {
        let mut announced = true;
        // Ordering: Release, so that a notifier that takes the announcement also sees how to wake us;
        // Acquire, so that if the event count is settled, we see what the settling barrier made visible.
        let before = self.word.fetch_or(ARMED | FENCED, Ordering::AcqRel);
        if before & essential!(event_settled, SETTLED, SETTLED | FENCED) == 0 {
            announced = essential!(event_barrier, heavy_barrier());
            if announced && before & FENCED == 0 {
                // Nobody else settles or quiets the event count between our switch and this.
                self.word.fetch_or(SETTLED, Ordering::Release);
            }
        }
        // Ordering: pairs with the fence in `waiter_behind_fence`: either that notifier sees ARMED, or our
        // next look sees what it published.
        essential!(event_waiter_fence, fence(Ordering::SeqCst));
        announced
    }

    /// Call this after publishing. Returns `true` if the caller must wake a waiter.
    #[cfg(all(test, loom))]
    pub(crate) fn notified(&self, rounds: &mut QuietRounds) -> bool {
        may_have_waiters(&self.word) && self.waiter_behind_fence(rounds)
    }

    /// The word that [`may_have_waiters`](crate::direct::may_have_waiters) reads.
    #[inline(always)]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Call this after publishing if [`may_have_waiters`](crate::direct::may_have_waiters) returned `true`.
    /// Returns `true` if the caller must wake a waiter.
    #[cold]
    #[inline(never)]
    pub(crate) fn waiter_behind_fence(&self, rounds: &mut QuietRounds) -> bool {
        // Ordering: pairs with the fence in `arm`.
        essential!(event_notifier_fence, fence(Ordering::SeqCst));
        if self.word.load(Ordering::Relaxed) & ARMED != 0 {
            rounds.0 = 0;
            // Ordering: Acquire pairs with `arm`'s Release: the waiter's registration is visible.
            return self.word.fetch_and(!ARMED, Ordering::Acquire) & ARMED != 0;
        }
        rounds.0 += 1;
        if rounds.0 >= ROUNDS_TO_QUIET {
            rounds.0 = 0;
            // Fails if a waiter came or the system has no barrier: then the event count stays fenced. A
            // failure loses nothing. The next waiter sees a success in the word that it changes.
            let remote = self.word.load(Ordering::Relaxed) & REMOTE;
            let _ = self.word.compare_exchange(
                FENCED | SETTLED | remote,
                remote,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        false
    }
}
