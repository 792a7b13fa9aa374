//! [`Spent`]: messages that were sent from their blocks.
//!
//! A publisher that waits for a block is woken by the first one that comes back. If each came back at once,
//! it would fill one block, and sleep again. So half of the messages that were waiting go back together,
//! unless they are so large that they would push each other out of the cache.

/// The most that go back together.
const MOST: usize = 16;
/// The most bytes of them, or a single one: half of a large second-level cache.
const BYTES: usize = 512 << 10;

/// Messages that were sent, and whose blocks have not gone back to their publishers.
#[derive(Debug)]
pub(crate) struct Spent<T> {
    messages: Vec<T>,
    /// Bytes of them.
    bytes: usize,
    /// How many go back together.
    limit: usize,
    most: usize,
}

impl<T> Spent<T> {
    /// `publishers_wait`: for their blocks. Otherwise, each goes back at once.
    pub(crate) fn new(publishers_wait: bool) -> Self {
        Self { messages: Vec::new(), bytes: 0, limit: 1, most: if publishers_wait { MOST } else { 1 } }
    }

    /// This number of messages waits to be sent.
    pub(crate) fn expect(&mut self, waiting: u64) {
        if self.messages.is_empty() {
            self.limit = usize::try_from(waiting / 2).unwrap_or(usize::MAX).min(self.most);
        }
    }

    /// Adds a message of this number of bytes that was sent.
    pub(crate) fn add(&mut self, message: T, bytes: usize) {
        self.messages.push(message);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.messages.len() >= self.limit || self.bytes >= BYTES {
            self.release();
        }
    }

    /// Gives all blocks back.
    pub(crate) fn release(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// How many blocks of 64 bytes are away after each of these messages, of which this number waits at
    /// first.
    fn away(publishers_wait: bool, waiting: u64, messages: usize) -> Vec<usize> {
        away_of(64, publishers_wait, waiting, messages)
    }

    fn away_of(bytes: usize, publishers_wait: bool, waiting: u64, messages: usize) -> Vec<usize> {
        let (mut spent, block) = (Spent::new(publishers_wait), Rc::new(()));
        let send = |sent: usize| {
            spent.expect(waiting.saturating_sub(sent as u64));
            spent.add(Rc::clone(&block), bytes);
            Rc::strong_count(&block) - 1
        };
        (0..messages).map(send).collect()
    }

    #[test]
    fn half_of_the_waiting_messages_go_back_together() {
        assert_eq!(away(true, 8, 8), [1, 2, 3, 0, 1, 0, 0, 0]);
        assert_eq!(away(true, 2, 3), [0, 0, 0]);
        let many = away(true, u64::MAX, 2 * MOST);
        assert_eq!(many.iter().max(), Some(&(MOST - 1)));
        assert_eq!(many.iter().filter(|&&away| away == 0).count(), 2);
    }

    #[test]
    fn large_messages_do_not_wait_for_each_other() {
        assert_eq!(away_of(BYTES / 2, true, 8, 4), [1, 0, 1, 0]);
        assert_eq!(away_of(BYTES, true, 8, 4), [0; 4]);
        assert_eq!(away_of(usize::MAX, true, 8, 2), [0; 2]);
    }

    #[test]
    fn each_goes_back_at_once_if_nobody_waits_or_when_released() {
        assert_eq!(away(false, 8, 3), [0, 0, 0]);
        let (mut spent, block) = (Spent::new(true), Rc::new(()));
        spent.expect(8);
        spent.add(Rc::clone(&block), 64);
        spent.release();
        assert_eq!(Rc::strong_count(&block), 1);
    }
}
