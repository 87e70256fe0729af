//! A sequence, serialised; and back, with the maximum stated.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::{PageVec, PageVecBuilder};

/// A sequence. (Back: see [`PageVecBuilder`], and [`AtMost`](crate::AtMost).)
impl<T: Serialize> Serialize for PageVec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

/// A builder is the seed of an array: it says how long the array may become, which the serialised
/// sequence cannot. What is longer, or passes a limit, is an error; memory is committed as elements
/// arrive, whatever length the input claims.
///
/// ```
/// use pagewise::PageVec;
/// use serde::de::DeserializeSeed;
///
/// let mut input = serde_json::Deserializer::from_str("[1, 2, 3]");
/// let numbers = PageVec::<u32>::builder(1000).deserialize(&mut input)?;
/// assert_eq!(numbers, [1, 2, 3]);
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for PageVecBuilder<T> {
    type Value = PageVec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<PageVec<T>, D::Error> {
        deserializer.deserialize_seq(Elements(self.build().map_err(D::Error::custom)?))
    }
}

struct Elements<T>(PageVec<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
    type Value = PageVec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a sequence of at most {} elements", self.0.max_len())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<PageVec<T>, A::Error> {
        while let Some(element) = elements.next_element()? {
            self.0.try_push(element).map_err(A::Error::custom)?;
        }
        Ok(self.0)
    }
}
