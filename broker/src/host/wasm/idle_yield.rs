//! Whether a guest that has nothing left to do lets others run before it announces that it sleeps: [`IdleYield`].
//!
//! Announcing it and being woken cost both sides several atomic operations, and after it the publisher fences each of its next messages
//! (see `gate.rs` of the blocks). If the publisher shares the guest's thread, or is about to go on on another, a turn
//! given up spares all of that. It costs the runtime a turn of its own, so it is worth it for whoever has received many messages
//! since the last time, and while it is not in vain.

/// Messages since the last wait from which on it is worth a turn.
const MANY: u64 = 32;

/// Waits without giving up a turn after one that was in vain.
const REST: u32 = 16;

/// What is known of a guest's waits.
#[derive(Debug, Default)]
pub(crate) struct IdleYield {
    /// Messages received when it waited last.
    received: u64,
    /// Waits to come without giving up a turn.
    rest: u32,
}

impl IdleYield {
    /// The guest, which has received that many messages in all, has nothing left to do. True: it gives up a turn first.
    pub(crate) fn begins(&mut self, received: u64) -> bool {
        let new = received.saturating_sub(std::mem::replace(&mut self.received, received));
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        new >= MANY && !rests
    }

    /// A turn was given up, and nothing came of it.
    pub(crate) fn was_in_vain(&mut self) {
        self.rest = REST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_given_up_after_many_messages() {
        let mut lull = IdleYield::default();
        assert!(!lull.begins(0));
        assert!(!lull.begins(MANY - 1));
        assert!(lull.begins(2 * MANY - 1));
        assert!(lull.begins(3 * MANY));
        assert!(!lull.begins(3 * MANY), "nothing came since");
    }

    #[test]
    fn what_was_in_vain_is_not_tried_again_at_once() {
        let mut lull = IdleYield::default();
        assert!(lull.begins(MANY));
        lull.was_in_vain();
        for wait in 2..2 + u64::from(REST) {
            assert!(!lull.begins(wait * MANY));
        }
        assert!(lull.begins((2 + u64::from(REST)) * MANY));
    }
}
