//! A sequence, serialised; and back, with the maximum stated.

use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use serde::{Serialize, Serializer};

use super::{ConcurrentVec, ConcurrentVecBuilder};

/// What is published now, as a sequence. (Back: see [`ConcurrentVecBuilder`], and [`AtMost`](crate::AtMost).)
impl<T: Serialize> Serialize for ConcurrentVec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

/// A builder is the seed of an array, as a [`PageVecBuilder`](crate::PageVecBuilder) is.
///
/// ```
/// use pagewise::ConcurrentVec;
/// use serde::de::DeserializeSeed;
///
/// let mut input = serde_json::Deserializer::from_str("[1, 2, 3]");
/// let numbers = ConcurrentVec::<u32>::builder(1000).deserialize(&mut input)?;
/// assert_eq!(numbers, [1, 2, 3]);
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for ConcurrentVecBuilder<T> {
    type Value = ConcurrentVec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(ConcurrentVec::from)
    }
}
