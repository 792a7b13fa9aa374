//! `serde::Serialize` for views, to print a message as JSON, for example.
//!
//! A list becomes a sequence, a map a map, a record a struct and a variant an enum. Serializing reads the
//! message in place, without an intermediate copy.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::flat_type::FlatType;
use crate::index::Index;
use crate::kinds::{Key, ListView, MapView};

/// Serializes a view of any `T`, even one that is an ordinary Rust type without `Serialize`, such as an enum
/// without payloads.
#[derive(Debug)]
pub struct Serialized<'a, T: FlatType, I: Index>(
    /// The view.
    pub T::View<'a, I>,
);

impl<T: FlatType, I: Index> Serialize for Serialized<'_, T, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize::<I, S>(self.0, serializer)
    }
}

impl<T: FlatType, I: Index> Serialize for ListView<'_, T, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        for element in *self {
            sequence.serialize_element(&Serialized::<T, I>(element))?;
        }
        sequence.end()
    }
}

impl<K: Key, V: FlatType, I: Index> Serialize for MapView<'_, K, V, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in *self {
            map.serialize_entry(&Serialized::<K, I>(key), &Serialized::<V, I>(value))?;
        }
        map.end()
    }
}
