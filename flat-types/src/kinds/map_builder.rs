//! Building a map in place, in the order of its keys.

use std::cmp::Ordering;
use std::fmt;

use crate::error::BuildError;
use crate::flat_type::FlatType;
use crate::index::Index;
use crate::kinds::{Key, ListBuilder, ListWriter};
use crate::target::{BuildFn, Finished, Target};
use crate::to_flat::ToFlat;

/// Starts a map in one of three ways.
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

    /// Starts a map of exactly `count` entries.
    ///
    /// # Errors
    ///
    /// Fails if [`ListBuilder::with_len`] fails.
    pub fn with_len(self, count: usize) -> Result<MapWriter<'b, K, V, I>, BuildError> {
        Ok(MapWriter { entries: self.entries.with_len(count)? })
    }

    /// Starts a map of at most `capacity` entries. See [`ListBuilder::with_capacity`].
    ///
    /// # Errors
    ///
    /// Fails if [`ListBuilder::with_capacity`] fails.
    pub fn with_capacity(self, capacity: usize) -> Result<MapWriter<'b, K, V, I>, BuildError> {
        Ok(MapWriter { entries: self.entries.with_capacity(capacity)? })
    }

    /// Starts a map that fills the rest of the block, if each entry has about `data` bytes in addition to its
    /// header. See [`ListBuilder::until_full`].
    ///
    /// # Errors
    ///
    /// Fails if [`ListBuilder::until_full`] fails.
    pub fn until_full(self, data: usize) -> Result<MapWriter<'b, K, V, I>, BuildError> {
        Ok(MapWriter { entries: self.entries.until_full(data)? })
    }

    /// Writes the entries of an iterator that knows its length, and completes the map.
    ///
    /// # Errors
    ///
    /// - [`BuildError::KeyOrder`] if the keys are not strictly ascending.
    /// - Fails if a key or a value cannot be written.
    /// - [`BuildError::TooFew`] or [`BuildError::ListFull`] if the iterator returns another number of entries
    ///   than it announced.
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

    /// Like [`entries`](Self::entries), but does not check the order of the keys.
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

/// Writes the entries of a map, one after another, in the order of their keys.
pub struct MapWriter<'b, K, V, I: Index> {
    entries: ListWriter<'b, (K, V), I>,
}

impl<K, V, I: Index> fmt::Debug for MapWriter<'_, K, V, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapWriter").field(&self.entries).finish()
    }
}

impl<'b, K: Key, V: FlatType, I: Index> MapWriter<'b, K, V, I> {
    /// Writes an entry. After an error, the map is unchanged and can be continued.
    ///
    /// # Errors
    ///
    /// - [`BuildError::KeyOrder`] if the key is not greater than the previous one.
    /// - [`BuildError::ListFull`] if the map has no room for another entry.
    /// - Fails if the key or the value cannot be written.
    #[inline]
    pub fn insert(&mut self, key: impl ToFlat<K>, value: impl ToFlat<V>) -> Result<(), BuildError> {
        let mark = self.entries.mark();
        self.entries.push((key, value))?;
        self.check_order(mark)
    }

    /// Writes an entry and returns `true`, or returns `false` if the block, the index or the map is full.
    ///
    /// # Errors
    ///
    /// Fails if the entry cannot be written for another reason: see [`BuildError::is_full`].
    #[inline]
    pub fn insert_if_fits(&mut self, key: impl ToFlat<K>, value: impl ToFlat<V>) -> Result<bool, BuildError> {
        match self.insert(key, value) {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes an entry whose value is built in place. After an error, the map is unchanged and can be
    /// continued.
    ///
    /// # Errors
    ///
    /// Fails if [`MapWriter::insert`] fails or the closure returns an error.
    pub fn insert_with<E: From<BuildError>>(
        &mut self,
        key: impl ToFlat<K>,
        build: impl for<'c> BuildFn<'c, V, I, E>,
    ) -> Result<(), E> {
        let mark = self.entries.mark();
        self.entries.push_with::<E>(|entry| Ok(entry.put(key)?.put_with::<E>(build)?.finish()?))?;
        Ok(self.check_order(mark)?)
    }

    /// Removes the last entry if its key is not greater than the previous one.
    #[inline]
    fn check_order(&mut self, mark: usize) -> Result<(), BuildError> {
        let last = self.entries.len() - 1;
        if last > 0 {
            // SAFETY: the previous entry is complete, and its header starts with the key's.
            let previous = unsafe { K::view::<I>(self.entries.header(last - 1)) };
            // SAFETY: the last entry is complete, and its header starts with the key's.
            let key = unsafe { K::view::<I>(self.entries.header(last)) };
            if K::compare::<I>(previous, key) != Ordering::Less {
                self.entries.take_back(mark);
                return Err(BuildError::KeyOrder);
            }
        }
        Ok(())
    }

    /// The number of entries written so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry has been written so far.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Completes the map.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooFew`] if the map was started with [`MapBuilder::with_len`] and has fewer entries.
    pub fn finish(self) -> Result<Finished<'b>, BuildError> {
        self.entries.finish()
    }
}
