//! The numbers that stand for what a component has open: [`Handles`].

/// A table of things, each with a handle: a place in the table and how often that place was used before.
///
/// A handle that was closed stands for nothing, also when its place is taken again; so does a number that was never given
/// out. A place that was used as often as can be told apart is not used again.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    places: Vec<Place<T>>,
    /// Places that can be taken again.
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// How often the place was used before.
    uses: u32,
    taken: Option<T>,
}

impl<T> Handles<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// A new handle, which is never 0. `None` if there is no place for another one.
    pub(crate) fn insert(&mut self, thing: T) -> Option<u64> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.places.len()).ok().filter(|place| *place < u32::MAX)?;
                self.places.push(Place { uses: 0, taken: None });
                place
            }
        };
        let entry = &mut self.places[place as usize];
        entry.taken = Some(thing);
        Some(handle(place, entry.uses))
    }

    /// What a handle stands for.
    #[inline]
    pub(crate) fn get_mut(&mut self, handle: u64) -> Option<&mut T> {
        let entry = self.places.get_mut(place(handle))?;
        if entry.uses == uses(handle) { entry.taken.as_mut() } else { None }
    }

    /// Takes out what a handle stands for; it stands for nothing from then on.
    pub(crate) fn remove(&mut self, handle: u64) -> Option<T> {
        let entry = self.places.get_mut(place(handle)).filter(|entry| entry.uses == uses(handle))?;
        let thing = entry.taken.take()?;
        if let Some(used) = entry.uses.checked_add(1) {
            entry.uses = used;
            self.free.push(place(handle) as u32); // it came from a number of 32 bits
        }
        Some(thing)
    }

    /// All that is there, with its handles.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.places.iter_mut().zip(0..).filter_map(|(entry, place)| {
            let handle = handle(place, entry.uses);
            entry.taken.as_mut().map(|thing| (handle, thing))
        })
    }

    /// All that is there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|entry| entry.taken.as_ref())
    }
}

const fn handle(place: u32, uses: u32) -> u64 {
    (uses as u64) << 32 | (place as u64 + 1)
}

/// The place that a handle names; none for 0.
#[inline]
const fn place(handle: u64) -> usize {
    (handle as u32).wrapping_sub(1) as usize
}

#[inline]
const fn uses(handle: u64) -> u32 {
    (handle >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_stands_for_what_it_was_made_for_until_it_is_removed() {
        let mut handles = Handles::new();
        let (cup, plate) = (handles.insert("cup").expect("room"), handles.insert("plate").expect("room"));
        assert_eq!(handles.get_mut(cup).copied(), Some("cup"));
        assert_eq!(handles.remove(cup), Some("cup"));
        assert_eq!((handles.get_mut(cup).copied(), handles.remove(cup)), (None, None));
        let bowl = handles.insert("bowl").expect("room");
        assert_ne!(bowl, cup, "the same place, and another handle");
        assert_eq!((handles.get_mut(cup).copied(), handles.get_mut(bowl).copied()), (None, Some("bowl")));
        assert_eq!(handles.get_mut(plate).copied(), Some("plate"));
        assert_eq!(handles.iter().count(), 2);
    }

    #[test]
    fn no_number_that_was_not_given_out_is_a_handle() {
        let mut handles = Handles::new();
        let cup = handles.insert(()).expect("room");
        let numbers =
            (0..1000).chain([u64::MAX, 1 << 32, 1 << 63, cup | 1 << 32, cup | 1 << 63, u64::from(u32::MAX)]);
        for number in numbers.filter(|&number| number != cup) {
            assert_eq!((handles.get_mut(number).copied(), handles.remove(number)), (None, None), "{number}");
        }
    }

    #[test]
    fn a_place_that_is_used_up_is_not_used_again() {
        let mut handles = Handles::new();
        let first = handles.insert(1).expect("room");
        handles.places[0].uses = u32::MAX;
        let last = first | u64::from(u32::MAX) << 32;
        assert_eq!(handles.remove(last), Some(1));
        assert_eq!((handles.get_mut(last).copied(), handles.get_mut(first).copied()), (None, None));
        assert_eq!(handles.insert(2), Some(2), "another place");
    }
}
