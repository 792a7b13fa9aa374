//! Waking without a fence on the hot path: the [`EventCount`] between those who wait and those who notify.
//!
//! A waiter announces itself, then looks once more for what it waits for; a notifier makes it happen,
//! then looks for waiters. Each side stores first and loads second, so both loads must not be ordered
//! before the stores, or both sides miss each other and the waiter sleeps for ever. A full fence on both
//! sides does it (and costs the notifier 8 ns per message). A gate therefore has two modes:
//!
//! - *quiet*: nobody has waited lately. The notifier uses a compiler barrier only; a waiter that finds the
//!   gate quiet issues a process-wide barrier (`membarrier`), which fences the notifier from outside.
//! - *fenced*: somebody waited lately. Notifiers fence, waiters fence, nobody calls the system.
//!
//! A waiter switches to fenced, the notifier returns to quiet after [`ROUNDS_TO_QUIET`] rounds without a
//! waiter. Both live in one word, so a switch and an announcement cannot cross: the notifier's
//! compare-exchange fails if a waiter is announced, and a waiter that finds the gate quiet fences for both.
//!
//! Another waiter that comes while the first is still on its way to the process-wide barrier must not rely on
//! it: a notifier may have looked before the switch, with its message not visible yet. So a fenced gate is
//! *settled* only when the waiter that switched it is past its barrier, others issue their own until then, and
//! only a settled gate becomes quiet again.

use crate::direct::may_have_waiters;
use crate::primitive::{AtomicU32, Ordering, asymmetric_barriers, essential, fence, heavy_barrier};

const ARMED: u32 = 1;
const FENCED: u32 = 2;
/// Every notifier that looked before the switch to fenced has passed a fence since.
const SETTLED: u32 = 4;
/// The system has no process-wide barrier: the gate never becomes quiet.
const ALWAYS_FENCED: u32 = 8;
/// In a forked child, whose gates nobody waits at: whoever notifies finds out that the channel is not its own.
#[cfg(not(loom))]
const INHERITED: u32 = 16;

/// Notifications without a waiter after which a fenced gate becomes quiet.
const ROUNDS_TO_QUIET: u32 = if cfg!(loom) { 1 } else { 1024 };

/// One word, shared by all waiters and notifiers of one condition. See the module's text.
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

    /// Makes every notifier look behind the gate: see [`crate::sys::fork`].
    #[cfg(not(loom))]
    pub(crate) fn look_closer(&self) {
        self.word.store(INHERITED, Ordering::Relaxed);
    }

    /// Announces a waiter. The caller has registered how it is to be woken, and must look once more for
    /// what it waits for before it sleeps. False if the system refused a process-wide barrier: a notifier may not have
    /// seen the announcement then, and the caller must not sleep.
    #[must_use]
    pub(crate) fn arm(&self) -> bool {
        let mut announced = true;
        // Ordering: Release, so that a notifier that takes the announcement also sees how to wake us; Acquire,
        // so that where the gate is settled, we see what the settling barrier made visible.
        let before = self.word.fetch_or(ARMED | FENCED, Ordering::AcqRel);
        if before & essential!(gate_settled, SETTLED, SETTLED | FENCED) == 0 {
            announced = essential!(gate_barrier, heavy_barrier());
            if announced && before & FENCED == 0 {
                // Nobody else settles or quiets the gate between our switch and this.
                self.word.fetch_or(SETTLED, Ordering::Release);
            }
        }
        // Ordering: pairs with the fence in `waiter_behind_fence`: either that notifier sees ARMED, or our
        // next look sees what it published.
        essential!(gate_waiter_fence, fence(Ordering::SeqCst));
        announced
    }

    /// To be called after something was published. True: somebody waits and must be woken by the caller.
    #[inline(always)]
    pub(crate) fn notified(&self, rounds: &mut QuietRounds) -> bool {
        may_have_waiters(&self.word) && self.waiter_behind_fence(rounds)
    }

    /// What [`may_have_waiters`] looks at.
    #[inline(always)]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// To be called where [`may_have_waiters`] was true, after something was published. True: somebody waits and must be woken by
    /// the caller.
    #[cold]
    #[inline(never)]
    pub(crate) fn waiter_behind_fence(&self, rounds: &mut QuietRounds) -> bool {
        // Ordering: pairs with the fence in `arm`.
        essential!(gate_notifier_fence, fence(Ordering::SeqCst));
        if self.word.load(Ordering::Relaxed) & ARMED != 0 {
            rounds.0 = 0;
            // Ordering: Acquire pairs with `arm`'s Release: the waiter's registration is visible.
            return self.word.fetch_and(!ARMED, Ordering::Acquire) & ARMED != 0;
        }
        rounds.0 += 1;
        if rounds.0 >= ROUNDS_TO_QUIET {
            rounds.0 = 0;
            // Fails if a waiter came or the system has no barrier: the gate stays fenced. A failure loses
            // nothing, a success is seen by the next waiter in the word it changes.
            let _ = self.word.compare_exchange(FENCED | SETTLED, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        false
    }
}
