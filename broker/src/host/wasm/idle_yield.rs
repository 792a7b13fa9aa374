//! Whether an idle guest yields to other tasks before it announces that it sleeps: [`IdleYield`].
//!
//! Announcing sleep and being woken cost both sides several atomic operations, and afterwards the publisher
//! fences each of its next messages (see the event count in `blocks`). If the publisher shares the guest's
//! thread, or is about to continue on another, yielding avoids all of that. Yielding costs the runtime a
//! turn. So it pays off for a guest that has received many messages since its last wait, unless the last
//! yield was in vain.

/// The number of messages since the last wait from which yielding pays off.
const MANY: u64 = 32;

/// The number of waits without yielding after a yield in vain.
const REST: u32 = 16;

/// Statistics about a guest's waits.
#[derive(Debug, Default)]
pub(crate) struct IdleYield {
    /// Messages received before its last wait.
    received: u64,
    /// The number of next waits without yielding.
    rest: u32,
}

impl IdleYield {
    /// An idle guest that has received this many messages in all is about to wait. Returns `true` if it
    /// yields first.
    pub(crate) fn begins(&mut self, received: u64) -> bool {
        let new = received.saturating_sub(std::mem::replace(&mut self.received, received));
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        new >= MANY && !rests
    }

    /// The last yield brought nothing.
    pub(crate) fn was_in_vain(&mut self) {
        self.rest = REST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_yields_after_many_messages() {
        let mut waits = IdleYield::default();
        assert!(!waits.begins(0));
        assert!(!waits.begins(MANY - 1));
        assert!(waits.begins(2 * MANY - 1));
        assert!(waits.begins(3 * MANY));
        assert!(!waits.begins(3 * MANY), "nothing came since");
    }

    #[test]
    fn a_yield_in_vain_is_not_repeated_immediately() {
        let mut waits = IdleYield::default();
        assert!(waits.begins(MANY));
        waits.was_in_vain();
        for wait in 2..2 + u64::from(REST) {
            assert!(!waits.begins(wait * MANY));
        }
        assert!(waits.begins((2 + u64::from(REST)) * MANY));
    }
}
