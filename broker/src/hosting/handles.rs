//! [`Handles`]: the numbers that name a component's open objects.

use std::collections::VecDeque;

/// A table whose entries have handles: a place in the table, and the number of times that the place was used
/// before.
///
/// A handle that was removed names nothing, even after its place is used again; neither does a number that
/// was never given out. A handle takes `PLACE_BITS` for its place and `USE_BITS` for the uses. A place whose
/// uses are used up rests until no other place is left.
#[derive(Debug)]
pub(crate) struct Handles<T, const PLACE_BITS: u32, const USE_BITS: u32> {
    places: Vec<Place<T>>,
    /// Places that can be used again.
    free: Vec<u32>,
    /// Places whose uses are used up, in the order in which that happened. When used again, they count from
    /// 0.
    resting: VecDeque<u32>,
    /// The most places.
    most: usize,
    len: usize,
}

#[derive(Debug)]
struct Place<T> {
    /// How often the place was used before.
    uses: u64,
    entry: Option<T>,
}

impl<T, const PLACE_BITS: u32, const USE_BITS: u32> Handles<T, PLACE_BITS, USE_BITS> {
    /// The most entries. Place 0 has the number 1, so that no handle is 0.
    const MOST: usize = (1 << PLACE_BITS) - 1;
    const LAST_USE: u64 = (1 << USE_BITS) - 1;

    /// An empty table, for as many entries as handles can name.
    pub(crate) const fn new() -> Self {
        Self::with_most(Self::MOST)
    }

    /// An empty table for at most `most` entries.
    pub(crate) const fn with_most(most: usize) -> Self {
        let most = if most < Self::MOST { most } else { Self::MOST };
        Self { places: Vec::new(), free: Vec::new(), resting: VecDeque::new(), most, len: 0 }
    }

    /// Adds an entry and returns its handle, which is never 0. `None` if the table is full.
    pub(crate) fn insert(&mut self, entry: T) -> Option<u64> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < self.most => {
                self.places.push(Place { uses: 0, entry: None });
                // Fits: at most `MOST`.
                self.places.len() as u32 - 1
            }
            None => {
                let place = self.resting.pop_front()?;
                self.places[place as usize].uses = 0;
                place
            }
        };
        let found = &mut self.places[place as usize];
        found.entry = Some(entry);
        self.len += 1;
        Some(found.uses << PLACE_BITS | (u64::from(place) + 1))
    }

    /// The entry that `handle` names.
    #[inline]
    pub(crate) fn get(&self, handle: u64) -> Option<&T> {
        let place = self.places.get(Self::place(handle))?;
        if place.uses == Self::uses(handle) { place.entry.as_ref() } else { None }
    }

    /// The entry that `handle` names, to change it.
    #[inline]
    pub(crate) fn get_mut(&mut self, handle: u64) -> Option<&mut T> {
        let place = self.places.get_mut(Self::place(handle))?;
        if place.uses == Self::uses(handle) { place.entry.as_mut() } else { None }
    }

    /// Removes the entry that `handle` names. From then on, the handle names nothing.
    pub(crate) fn remove(&mut self, handle: u64) -> Option<T> {
        let number = Self::place(handle);
        let place = self.places.get_mut(number).filter(|place| place.uses == Self::uses(handle))?;
        let entry = place.entry.take()?;
        self.len -= 1;
        let number = number as u32; // it came from a number of 32 bits
        if place.uses < Self::LAST_USE {
            place.uses += 1;
            self.free.push(number);
        } else {
            self.resting.push_back(number);
        }
        Some(entry)
    }

    /// Whether there is no room for another entry.
    pub(crate) fn is_full(&self) -> bool {
        self.len == self.most
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All entries with their handles.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.places.iter_mut().zip(1..).filter_map(|(place, number)| {
            let handle = place.uses << PLACE_BITS | number;
            place.entry.as_mut().map(|entry| (handle, entry))
        })
    }

    /// All entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|place| place.entry.as_ref())
    }

    /// Takes all entries out.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = T> {
        self.places.into_iter().filter_map(|place| place.entry)
    }

    /// The place that a handle names. For 0, no place.
    #[inline]
    const fn place(handle: u64) -> usize {
        (handle & Self::MOST as u64).wrapping_sub(1) as usize
    }

    #[inline]
    const fn uses(handle: u64) -> u64 {
        handle >> PLACE_BITS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    type Wide<T> = Handles<T, 32, 32>;
    type Narrow<T> = Handles<T, 20, 11>;

    #[test]
    fn a_handle_names_its_entry_until_it_is_removed() {
        let mut handles = Wide::new();
        let (cup, plate) = (handles.insert("cup").expect("room"), handles.insert("plate").expect("room"));
        assert_eq!(
            (handles.get(cup).copied(), handles.get_mut(plate).copied()),
            (Some("cup"), Some("plate"))
        );
        assert_eq!((handles.remove(cup), handles.len()), (Some("cup"), 1));
        assert_eq!(
            (handles.get(cup).copied(), handles.get_mut(cup).copied(), handles.remove(cup)),
            (None, None, None)
        );
        let bowl = handles.insert("bowl").expect("room");
        assert_ne!(bowl, cup, "the same place with a different handle");
        assert_eq!((handles.get(cup), handles.get(bowl)), (None, Some(&"bowl")));
        assert_eq!(handles.iter().count(), 2);
        let all: Vec<(u64, &str)> = handles.iter_mut().map(|(handle, entry)| (handle, *entry)).collect();
        assert_eq!(all, [(bowl, "bowl"), (plate, "plate")]);
    }

    #[test]
    fn a_number_that_was_never_given_out_names_nothing() {
        let (mut wide, mut narrow) = (Wide::new(), Narrow::new());
        let (cup, mug) = (wide.insert(()).expect("room"), narrow.insert(()).expect("room"));
        let bits = [20, 31, 32, 63].map(|bit| 1 << bit);
        let numbers = (0..1000).chain([u64::MAX, u64::from(u32::MAX)]).chain(bits);
        for number in numbers.chain(bits.map(|bit| bit | 1)) {
            assert_eq!(wide.get(number).is_some(), number == cup, "{number}");
            assert_eq!(narrow.get(number).is_some(), number == mug, "{number}");
        }
    }

    #[test]
    fn a_handle_comes_again_only_after_all_others() {
        const PLACES: usize = 4;
        let mut handles = Narrow::with_most(PLACES);
        let kept = handles.insert(7).expect("room");
        let mut seen = HashSet::from([kept]);
        let round = (PLACES as u64 - 1) << 11;
        for number in 0..3 * round {
            let handle = handles.insert(number).expect("room");
            assert!(handle != 0 && handle >> 31 == 0, "{handle}");
            assert_eq!(seen.insert(handle), number < round, "{handle} is number {number}");
            assert_eq!(handles.remove(handle), Some(number));
            assert_eq!(handles.get(handle), None);
        }
        assert_eq!(handles.get(kept), Some(&7));
        for _ in 1..PLACES {
            handles.insert(0).expect("room");
        }
        assert_eq!(handles.insert(0), None, "too many at a time");
        assert!(handles.is_full());
    }

    #[test]
    fn a_place_rests_before_an_old_handle_could_name_something_new() {
        let mut handles = Narrow::new();
        let mut seen = HashSet::new();
        for _ in 0..3 << 11 {
            let handle = handles.insert(()).expect("room");
            assert!(seen.insert(handle), "{handle} was given out before");
            handles.remove(handle).expect("known");
        }
    }
}
