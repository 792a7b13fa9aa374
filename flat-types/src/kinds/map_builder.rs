//! Building a map in place: entries are written in the order of their keys.

use std::cmp::Ordering;
use std::fmt;

use crate::error::BuildError;
use crate::flat_type::FlatType;
use crate::index::Index;
use crate::kinds::{Key, ListBuilder, ListItems};
use crate::target::{BuildFn, Finished, Target};
use crate::to_flat::ToFlat;

/// Starts a map.
pub struct MapBuilder<'b, K, V, I: Index> {
    entries: ListBuilder<'b, (K, V), I>,
}

impl<K, V, I: Index> fmt::Debug for MapBuilder<'_, K, V, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapBuilder").field(&self.entries).finish()
    }
}

impl<'b, K: Key, V: FlatType, I: Index> MapBuilder<'b, K, V, I> {
    pub(crate) fn new(target: Target<'b, I>) -> Self {
        MapBuilder { entries: ListBuilder::new(target) }
    }

    /// A map of exactly `count` entries.
    ///
    /// # Errors
    ///
    /// Those of [`ListBuilder::with_len`].
    pub fn with_len(self, count: usize) -> Result<MapEntries<'b, K, V, I>, BuildError> {
        Ok(MapEntries { entries: self.entries.with_len(count)? })
    }

    /// A map of at most `capacity` entries; see [`ListBuilder::with_capacity`].
    ///
    /// # Errors
    ///
    /// Those of [`ListBuilder::with_capacity`].
    pub fn with_capacity(self, capacity: usize) -> Result<MapEntries<'b, K, V, I>, BuildError> {
        Ok(MapEntries { entries: self.entries.with_capacity(capacity)? })
    }

    /// A map of as many entries as the rest of the block may hold; see [`ListBuilder::until_full`].
    ///
    /// # Errors
    ///
    /// Those of [`ListBuilder::until_full`].
    pub fn until_full(self, data: usize) -> Result<MapEntries<'b, K, V, I>, BuildError> {
        Ok(MapEntries { entries: self.entries.until_full(data)? })
    }

    /// Writes the entries of an iterator that knows its length, and completes the map.
    ///
    /// # Errors
    ///
    /// [`BuildError::KeyOrder`] if the keys do not ascend strictly; those of the values.
    pub fn entries<A, B, E>(self, entries: E) -> Result<Finished<'b>, BuildError>
    where
        A: ToFlat<K>,
        B: ToFlat<V>,
        E: IntoIterator<Item = (A, B), IntoIter: ExactSizeIterator>,
    {
        let entries = entries.into_iter();
        let mut map = self.with_len(entries.len())?;
        for (key, value) in entries {
            map.insert(key, value)?;
        }
        map.finish()
    }

    /// As [`entries`](Self::entries), of entries that are known to be in order.
    #[inline]
    pub(crate) fn in_order<A, B, E>(self, entries: E) -> Result<Finished<'b>, BuildError>
    where
        A: ToFlat<K>,
        B: ToFlat<V>,
        E: IntoIterator<Item = (A, B), IntoIter: ExactSizeIterator>,
    {
        self.entries.items(entries)
    }
}

/// Writes the entries of a map, keys ascending.
pub struct MapEntries<'b, K, V, I: Index> {
    entries: ListItems<'b, (K, V), I>,
}

impl<K, V, I: Index> fmt::Debug for MapEntries<'_, K, V, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapEntries").field(&self.entries).finish()
    }
}

impl<'b, K: Key, V: FlatType, I: Index> MapEntries<'b, K, V, I> {
    /// Writes an entry. On an error the map is as before and can go on.
    ///
    /// # Errors
    ///
    /// [`BuildError::KeyOrder`] if the key is not above the one before; [`BuildError::ListFull`]; those of key
    /// and value.
    #[inline]
    pub fn insert(&mut self, key: impl ToFlat<K>, value: impl ToFlat<V>) -> Result<(), BuildError> {
        let mark = self.entries.mark();
        self.entries.push((key, value))?;
        self.check_order(mark)
    }

    /// Writes an entry unless the block, the index or the map is full; says whether it did.
    ///
    /// # Errors
    ///
    /// Errors for which a new block would be of no use.
    #[inline]
    pub fn insert_if_fits(&mut self, key: impl ToFlat<K>, value: impl ToFlat<V>) -> Result<bool, BuildError> {
        match self.insert(key, value) {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes an entry whose value is built in place. On an error the map is as before and can go on.
    ///
    /// # Errors
    ///
    /// Those of [`MapEntries::insert`] and of the closure.
    pub fn insert_with<E: From<BuildError>>(
        &mut self,
        key: impl ToFlat<K>,
        build: impl for<'c> BuildFn<'c, V, I, E>,
    ) -> Result<(), E> {
        let mark = self.entries.mark();
        self.entries.push_with::<E>(|entry| Ok(entry.put(key)?.put_with::<E>(build)?.finish()?))?;
        Ok(self.check_order(mark)?)
    }

    /// Takes the last entry back if its key is not above the one before it.
    #[inline]
    fn check_order(&mut self, mark: usize) -> Result<(), BuildError> {
        let last = self.entries.len() - 1;
        if last > 0 {
            // SAFETY: the entry before the last is complete; its header starts with its key's.
            let previous = unsafe { K::view::<I>(self.entries.header(last - 1)) };
            // SAFETY: the last entry is complete; its header starts with its key's.
            let key = unsafe { K::view::<I>(self.entries.header(last)) };
            if K::compare::<I>(previous, key) != Ordering::Less {
                self.entries.take_back(mark);
                return Err(BuildError::KeyOrder);
            }
        }
        Ok(())
    }

    /// Entries written so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was written so far.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Completes the map.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooFew`] if a map of known length has fewer entries.
    pub fn finish(self) -> Result<Finished<'b>, BuildError> {
        self.entries.finish()
    }
}
