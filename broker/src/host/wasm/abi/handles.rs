//! The handles of guests that are core modules. The engine checks those of components.
//!
//! A handle consists of a place in a table and the number of times that the place was used before. So a
//! dropped handle names nothing, even after its place is used again. A place whose numbers are used up rests
//! until no other place is left. So a handle comes again only after about two thousand million others, and a
//! guest can keep creating handles forever.

use std::any::TypeId;
use std::collections::VecDeque;

/// A type of value that guests have handles on.
pub(crate) trait HostResource: 'static {
    /// Its name in the interface.
    const NAME: &'static str;
}

/// Bits of a handle that name its place.
const PLACE_BITS: u32 = 20;

/// The largest number of uses that a handle can encode. The highest bit of a handle stays 0.
const LAST_USE: u32 = (1 << (31 - PLACE_BITS)) - 1;

#[derive(Debug)]
struct Entry {
    /// How often the place was used before.
    uses: u32,
    /// The type and number that the handle names, while it is open.
    taken: Option<(TypeId, u32)>,
}

/// All handles of a guest.
#[derive(Debug)]
pub(crate) struct Handles {
    entries: Vec<Entry>,
    /// Places that can be used again.
    free: Vec<u32>,
    /// Places whose numbers are used up, in the order in which that happened. When used again, they count
    /// from 0.
    resting: VecDeque<u32>,
    /// The most places.
    most: usize,
}

impl Default for Handles {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), resting: VecDeque::new(), most: (1 << PLACE_BITS) - 1 }
    }
}

impl Handles {
    /// A new handle on the `T` with the number `rep`. Never 0.
    pub(crate) fn insert<T: HostResource>(&mut self, rep: u32) -> wasmtime::Result<u32> {
        let taken = Some((TypeId::of::<T>(), rep));
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.entries.len() < self.most => {
                self.entries.push(Entry { uses: 0, taken: None });
                // Fits: just checked.
                self.entries.len() as u32 - 1
            }
            None => {
                let rested = self.resting.pop_front();
                let place = rested.ok_or_else(|| wasmtime::Error::msg("the guest has too many handles"))?;
                self.entries[place as usize].uses = 0;
                place
            }
        };
        let entry = &mut self.entries[place as usize];
        entry.taken = taken;
        Ok(entry.uses << PLACE_BITS | (place + 1))
    }

    /// The number of the `T` that `handle` names.
    #[inline]
    pub(crate) fn rep<T: HostResource>(&self, handle: u32) -> wasmtime::Result<u32> {
        let entry = self.entries.get(place(handle) as usize);
        match entry.filter(|entry| entry.uses == handle >> PLACE_BITS).and_then(|entry| entry.taken) {
            Some((kind, rep)) if kind == TypeId::of::<T>() => Ok(rep),
            _ => Err(unknown::<T>(handle)),
        }
    }

    /// Like [`rep`](Self::rep), but also closes the handle.
    pub(crate) fn remove<T: HostResource>(&mut self, handle: u32) -> wasmtime::Result<u32> {
        let rep = self.rep::<T>(handle)?;
        let place = place(handle);
        let entry = &mut self.entries[place as usize];
        entry.taken = None;
        if entry.uses < LAST_USE {
            entry.uses += 1;
            self.free.push(place);
        } else {
            self.resting.push_back(place);
        }
        Ok(rep)
    }
}

/// The place that a handle names. For 0, no place.
const fn place(handle: u32) -> u32 {
    (handle & ((1 << PLACE_BITS) - 1)).wrapping_sub(1)
}

#[cold]
fn unknown<T: HostResource>(handle: u32) -> wasmtime::Error {
    wasmtime::Error::msg(format!("handle {handle} stands for no {}", T::NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Cup;
    impl HostResource for Cup {
        const NAME: &'static str = "cup";
    }

    #[derive(Debug)]
    struct Plate;
    impl HostResource for Plate {
        const NAME: &'static str = "plate";
    }

    #[test]
    fn a_handle_stands_for_what_it_was_made_for_until_it_is_dropped() {
        let mut handles = Handles::default();
        let (cup, plate) =
            (handles.insert::<Cup>(7).expect("room"), handles.insert::<Plate>(7).expect("room"));
        assert_eq!(handles.rep::<Cup>(cup).expect("known"), 7);
        assert_eq!(
            handles.rep::<Cup>(plate).expect_err("a plate").to_string(),
            format!("handle {plate} stands for no cup")
        );
        assert_eq!(handles.remove::<Cup>(cup).expect("known"), 7);
        assert!(handles.rep::<Cup>(cup).is_err());
        assert!(handles.remove::<Cup>(cup).is_err());
        assert_eq!(handles.rep::<Plate>(plate).expect("known"), 7);
    }

    #[test]
    fn no_number_that_was_not_given_out_is_a_handle() {
        let mut handles = Handles::default();
        let cup = handles.insert::<Cup>(0).expect("room");
        let numbers =
            (0..1000).chain([u32::MAX, 1 << 31, 1 << PLACE_BITS, (1 << PLACE_BITS) + 1, cup | 1 << 31]);
        for number in numbers.filter(|&number| number != cup) {
            assert!(handles.rep::<Cup>(number).is_err(), "{number}");
        }
    }

    #[test]
    fn handles_come_round_when_all_were_given_out_and_no_sooner() {
        const PLACES: usize = 4;
        let mut handles = Handles { most: PLACES, ..Handles::default() };
        let kept = handles.insert::<Cup>(7).expect("room");
        let mut seen = std::collections::HashSet::from([kept]);
        let round = (PLACES as u32 - 1) * (LAST_USE + 1);
        for number in 0..3 * round {
            let handle = handles.insert::<Cup>(number).expect("room");
            assert_ne!(handle, kept);
            assert_eq!(seen.insert(handle), number < round, "{handle} is number {number}");
            assert_eq!(handles.rep::<Cup>(handle).expect("known"), number);
            handles.remove::<Cup>(handle).expect("known");
            assert!(handles.rep::<Cup>(handle).is_err());
        }
        assert_eq!(handles.rep::<Cup>(kept).expect("known"), 7);
        for _ in 1..PLACES {
            handles.insert::<Cup>(0).expect("room");
        }
        handles.insert::<Cup>(0).expect_err("too many at a time");
    }

    #[test]
    fn a_place_is_given_up_before_an_old_handle_could_stand_for_something_new() {
        let mut handles = Handles::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 * LAST_USE {
            let handle = handles.insert::<Cup>(1).expect("room");
            assert!(handle != 0 && seen.insert(handle), "{handle} was given out before");
            handles.remove::<Cup>(handle).expect("known");
        }
    }
}
