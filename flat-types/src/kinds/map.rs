//! Maps: lists of pairs of key and value, with strictly ascending keys. The view finds keys by binary search.
//!
//! Maps are sorted instead of hashed for several reasons. The bytes depend only on the contents, other
//! languages need not implement a hash function, and maps iterate in order. The free slots of a hash table
//! would waste bytes in every message. A search among 10,000 keys takes 14 comparisons.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header, tail};
use crate::index::Index;
use crate::kinds::{ListIter, ListView, MapBuilder};
use crate::schema::Type;
use crate::target::{Finished, Place, Target};
use crate::to_flat::{ToFlat, list_end};
use crate::validator::Validator;

/// A type that can be the key of a map, with an order that is the same in every language.
///
/// Integers are ordered by value, `bool` with `false` first, `char` by code point, [`String`] by its UTF-8
/// bytes (and so by code points), and tuples lexicographically.
///
/// Programs cannot implement this trait: the order is part of the format, and other readers would reject a
/// map with another order.
///
/// ```compile_fail,E0277
/// use std::cmp::Ordering;
/// use blockcast_flat_types::{Flat, Index, Key};
///
/// #[derive(Flat, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
/// enum Size { Small, Large }
///
/// impl Key for Size {
///     fn compare<I: Index>(a: Size, b: Size) -> Ordering { b.cmp(&a) }
/// }
/// ```
pub trait Key: FlatType + Ord + sealed::Sealed {
    /// Compares two views.
    fn compare<I: Index>(a: Self::View<'_, I>, b: Self::View<'_, I>) -> Ordering;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! keys {
    ($($type:ty),+) => { $(
        impl sealed::Sealed for $type {}

        impl Key for $type {
            #[inline]
            fn compare<I: Index>(a: Self::View<'_, I>, b: Self::View<'_, I>) -> Ordering {
                a.cmp(&b)
            }
        }
    )+ };
}

keys!(bool, u8, u16, u32, u64, i8, i16, i32, i64, char);

impl sealed::Sealed for String {}

impl Key for String {
    #[inline]
    fn compare<I: Index>(a: &str, b: &str) -> Ordering {
        // Most keys differ in their first eight bytes. Comparing these costs less than a call.
        match (a.as_bytes().first_chunk(), b.as_bytes().first_chunk()) {
            (Some(first), Some(other)) if first != other => {
                u64::from_be_bytes(*first).cmp(&u64::from_be_bytes(*other))
            }
            _ => a.cmp(b),
        }
    }
}

macro_rules! tuple_keys {
    ($($n:tt $T:ident),+) => {
        impl<$($T: Key),+> sealed::Sealed for ($($T,)+) {}

        impl<$($T: Key),+> Key for ($($T,)+) {
            fn compare<I: Index>(a: Self::View<'_, I>, b: Self::View<'_, I>) -> Ordering {
                Ordering::Equal$(.then_with(|| $T::compare::<I>(a.$n, b.$n)))+
            }
        }
    };
}

tuple_keys!(0 A, 1 B);
tuple_keys!(0 A, 1 B, 2 C);
tuple_keys!(0 A, 1 B, 2 C, 3 D);

// SAFETY: `validate` checks that the region of the entries is in the message, and validates each of them.
unsafe impl<K: Key, V: FlatType> FlatType for BTreeMap<K, V> {
    type View<'a, I: Index> = MapView<'a, K, V, I>;
    type Builder<'b, I: Index> = MapBuilder<'b, K, V, I>;
    const TYPE: &'static Type = &Type::Map(K::TYPE, V::TYPE);

    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        let size = Header::<(K, V), I>::SIZE;
        let region = validator.region(at, size, Header::<(K, V), I>::ALIGN)?;
        let mut previous = None;
        for n in 0..region.count {
            let at = region.start + n * size;
            <(K, V)>::validate(validator, at)?;
            // SAFETY: the line above has validated the entry, whose header starts with the key's.
            let key = unsafe { K::view::<I>(tail(validator.bytes(), at)) };
            if previous.is_some_and(|previous| K::compare::<I>(previous, key) != Ordering::Less) {
                return Err(FlatError::KeyOrder { at });
            }
            previous = Some(key);
        }
        Ok(())
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> MapView<'_, K, V, I> {
        // SAFETY: a valid map is a valid list of its entries.
        MapView { entries: unsafe { Vec::<(K, V)>::view(bytes) } }
    }

    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
        MapBuilder::new(target)
    }

    fn from_view<I: Index>(view: MapView<'_, K, V, I>) -> Self {
        view.to_map()
    }

    #[cfg(feature = "serde")]
    fn serialize<I: Index, S: serde::Serializer>(
        view: MapView<'_, K, V, I>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&view, serializer)
    }
}

/// A map, read in place.
///
/// Finding a key takes a binary search. Reading neither allocates nor panics.
pub struct MapView<'a, K, V, I> {
    entries: ListView<'a, (K, V), I>,
}

impl<K, V, I> Clone for MapView<'_, K, V, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V, I> Copy for MapView<'_, K, V, I> {}

impl<'a, K: Key, V: FlatType, I: Index> MapView<'a, K, V, I> {
    /// The number of entries.
    pub fn len(self) -> usize {
        self.entries.len()
    }

    /// Whether the map has no entries.
    pub fn is_empty(self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the value of `key`, if the map contains it. The key is a view, such as `&str` for strings.
    pub fn get(self, key: K::View<'_, I>) -> Option<V::View<'a, I>> {
        let n = self.search(key).ok()?;
        self.entries.get(n).map(|(_, value)| value)
    }

    /// Whether the map contains `key`.
    pub fn contains_key(self, key: K::View<'_, I>) -> bool {
        self.search(key).is_ok()
    }

    /// Returns the index of the entry with this key.
    ///
    /// # Errors
    ///
    /// Like [`slice::binary_search`], returns the number of smaller keys if the map does not contain the key.
    pub fn search(self, key: K::View<'_, I>) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match K::compare::<I>(self.key(middle), key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Returns the key of entry `n`, which is less than the length, without reading the value.
    #[inline]
    fn key(self, n: usize) -> K::View<'a, I> {
        debug_assert!(n < self.len(), "the entry exists");
        // SAFETY: the entries are valid, and an entry's header starts with the key's.
        unsafe { K::view(self.entries.header(n)) }
    }

    /// Returns the entries as a list, for random access and ranges. The keys are ascending.
    pub fn entries(self) -> ListView<'a, (K, V), I> {
        self.entries
    }

    /// Iterates over the entries in the order of their keys.
    pub fn iter(self) -> ListIter<'a, (K, V), I> {
        self.entries.iter()
    }

    /// Iterates over the keys in ascending order.
    pub fn keys(self) -> impl DoubleEndedIterator<Item = K::View<'a, I>> + ExactSizeIterator {
        self.iter().map(|(key, _)| key)
    }

    /// Iterates over the values in the order of their keys.
    pub fn values(self) -> impl DoubleEndedIterator<Item = V::View<'a, I>> + ExactSizeIterator {
        self.iter().map(|(_, value)| value)
    }

    /// Copies the map into an ordinary Rust value. Allocates.
    pub fn to_map(self) -> BTreeMap<K, V> {
        self.iter().map(|(key, value)| (K::from_view::<I>(key), V::from_view::<I>(value))).collect()
    }
}

impl<K: Key, V: FlatType, I: Index> fmt::Debug for MapView<'_, K, V, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(*self).finish()
    }
}

impl<'a, K: Key, V: FlatType, I: Index> IntoIterator for MapView<'a, K, V, I> {
    type Item = (K::View<'a, I>, V::View<'a, I>);
    type IntoIter = ListIter<'a, (K, V), I>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V, I> PartialEq for MapView<'a, K, V, I>
where
    K: Key,
    V: FlatType,
    I: Index,
    (K::View<'a, I>, V::View<'a, I>): PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<K, V, I, A, B> PartialEq<BTreeMap<A, B>> for MapView<'_, K, V, I>
where
    K: Key,
    V: FlatType,
    I: Index,
    A: ToFlat<K>,
    B: ToFlat<V>,
{
    fn eq(&self, other: &BTreeMap<A, B>) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(view, entry)| entry.matches::<I>(view))
    }
}

impl<K, V, A, B> ToFlat<BTreeMap<K, V>> for BTreeMap<A, B>
where
    K: Key,
    V: FlatType,
    A: ToFlat<K>,
    B: ToFlat<V>,
{
    fn write_to<'b, I: Index>(
        &self,
        place: Place<'b, BTreeMap<K, V>, I>,
    ) -> Result<Finished<'b>, BuildError> {
        if A::KEY_ORDER.is_some() { place.builder().in_order(self) } else { place.builder().entries(self) }
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        list_end::<(K, V), _, I>(self.iter(), cursor)
    }

    fn matches<I: Index>(&self, view: MapView<'_, K, V, I>) -> bool {
        view == *self
    }
}

/// Writes a map of another message, which can have another index width, without an intermediate copy.
impl<'v, K, V, J> ToFlat<BTreeMap<K, V>> for MapView<'v, K, V, J>
where
    K: Key,
    V: FlatType,
    J: Index,
    K::View<'v, J>: ToFlat<K>,
    V::View<'v, J>: ToFlat<V>,
{
    fn write_to<'b, I: Index>(
        &self,
        place: Place<'b, BTreeMap<K, V>, I>,
    ) -> Result<Finished<'b>, BuildError> {
        place.builder().in_order(*self)
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        list_end::<(K, V), _, I>(self.iter(), cursor)
    }

    fn matches<I: Index>(&self, view: MapView<'_, K, V, I>) -> bool {
        self.len() == view.len() && view.iter().zip(*self).all(|(view, value)| value.matches::<I>(view))
    }
}

/// Writes entries with strictly ascending keys. Other entries are an error when they are written.
impl<K, V, A, B> ToFlat<BTreeMap<K, V>> for [(A, B)]
where
    K: Key,
    V: FlatType,
    A: ToFlat<K>,
    B: ToFlat<V>,
{
    fn write_to<'b, I: Index>(
        &self,
        place: Place<'b, BTreeMap<K, V>, I>,
    ) -> Result<Finished<'b>, BuildError> {
        place.builder().entries(self.iter().map(|(key, value)| (key, value)))
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        list_end::<(K, V), _, I>(self.iter(), cursor)
    }

    fn matches<I: Index>(&self, view: MapView<'_, K, V, I>) -> bool {
        view.entries == *self
    }
}
