//! [`PublisherNumbers`]: the numbers by which components know publishers of other processes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// The first of these numbers. Components know the publishers of their own process by lower ones.
const FIRST: u32 = 1 << 31;

/// Publishers that are remembered at a time.
const MAX_KNOWN: usize = 16 << 10;

/// Gives publishers of other processes numbers of 32 bits, because components have no room for those of 64
/// bits, whose lower halves are the same in all processes.
///
/// A publisher keeps its number, even if all subscriptions leave it and others join it later. Only if 16,384
/// others have come meanwhile, it gets another one.
#[derive(Debug, Default)]
pub(crate) struct PublisherNumbers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    numbers: BTreeMap<u64, u32>,
    /// The publishers, oldest first.
    order: VecDeque<u64>,
    next: u32,
}

impl PublisherNumbers {
    /// The number by which components know the publisher with this one.
    pub(crate) fn number(&self, publisher: u64) -> u32 {
        // Only changed by single calls, so it is consistent after a panic.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = known.numbers.get(&publisher) {
            return number;
        }
        if known.order.len() >= MAX_KNOWN
            && let Some(oldest) = known.order.pop_front()
        {
            known.numbers.remove(&oldest);
        }
        let number = FIRST | known.next;
        known.next = known.next.wrapping_add(1);
        known.order.push_back(publisher);
        known.numbers.insert(publisher, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn publishers_have_numbers_of_their_own_which_they_keep() {
        let numbers = PublisherNumbers::default();
        // The lower halves are the same.
        let publishers: Vec<u64> =
            (1..100).flat_map(|process| (1..10).map(move |one| (process << 40) + one)).collect();
        let given: Vec<u32> = publishers.iter().map(|&publisher| numbers.number(publisher)).collect();
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), publishers.len());
        assert!(given.iter().all(|&number| number >= FIRST), "not those of the process itself");
        assert!(publishers.iter().map(|&publisher| numbers.number(publisher)).eq(given));
    }

    #[test]
    fn any_number_of_publishers_takes_bounded_memory() {
        let numbers = PublisherNumbers::default();
        let given: BTreeSet<u32> = (0..3 * MAX_KNOWN as u64).map(|one| numbers.number(one)).collect();
        assert_eq!(given.len(), 3 * MAX_KNOWN);
        let known = numbers.0.lock().expect("no panic");
        assert_eq!((known.order.len(), known.numbers.len()), (MAX_KNOWN, MAX_KNOWN));
    }
}
