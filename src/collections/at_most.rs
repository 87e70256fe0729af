//! Fields of structs that derive `Deserialize`: how many elements there may be.

use serde::de::{DeserializeSeed, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use super::{ConcurrentVec, PageVec};

/// For `#[serde(with = …)]`: the maximum length of an array in a struct that derives [`Deserialize`]. A longer
/// sequence is an error; memory is committed as elements arrive, whatever length the input claims.
///
/// A plain `Deserialize` of these arrays would have to make a maximum up, and let the input fill it.
///
/// ```
/// use pagewise::{ConcurrentVec, PageVec};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Level {
///     name: String,
///     #[serde(with = "pagewise::AtMost::<1_000_000>")]
///     tiles: PageVec<u16>,
///     #[serde(with = "pagewise::AtMost::<3>", default)]
///     events: ConcurrentVec<String>,
/// }
/// let level: Level = serde_json::from_str(r#"{ "name": "cave", "tiles": [7, 8], "events": ["start"] }"#)?;
/// assert_eq!((level.tiles.len(), level.tiles.max_len()), (2, 1_000_000));
/// assert_eq!(serde_json::to_string(&level)?, r#"{"name":"cave","tiles":[7,8],"events":["start"]}"#);
/// let too_many = r#"{ "name": "cave", "tiles": [], "events": ["a", "b", "c", "d"] }"#;
/// assert!(serde_json::from_str::<Level>(too_many).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub enum AtMost<const MAX_LEN: usize> {}

impl<const MAX_LEN: usize> AtMost<MAX_LEN> {
    /// Serialises an array as a sequence. For `#[serde(with = …)]`.
    ///
    /// # Errors
    /// Those of the serialiser.
    ///
    /// ```
    /// let array = pagewise::PageVec::try_from_iter(10, [1, 2])?;
    /// let mut text = Vec::new();
    /// pagewise::AtMost::<10>::serialize(&array, &mut serde_json::Serializer::new(&mut text)).unwrap();
    /// assert_eq!(text, b"[1,2]");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn serialize<A: Serialize, S: Serializer>(
        array: &A,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        array.serialize(serializer)
    }

    /// Makes an array of at most `MAX_LEN` elements from a sequence. For `#[serde(with = …)]`.
    ///
    /// # Errors
    /// Those of the deserialiser, and where there are more elements, or where memory is refused.
    ///
    /// ```
    /// let mut input = serde_json::Deserializer::from_str("[1, 2, 3]");
    /// let array: pagewise::PageVec<u8> = pagewise::AtMost::<3>::deserialize(&mut input)?;
    /// assert!(array.is_full());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn deserialize<'de, A: Bounded<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<A, D::Error> {
        A::deserialize_at_most(MAX_LEN, deserializer)
    }
}

/// The arrays that [`AtMost`] makes.
pub trait Bounded<'de>: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn deserialize_at_most<D: Deserializer<'de>>(
        max_len: usize,
        deserializer: D,
    ) -> Result<Self, D::Error>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! bounded {
    ($($array:ident)*) => {$(
        impl<T> sealed::Sealed for $array<T> {}

        impl<'de, T: Deserialize<'de>> Bounded<'de> for $array<T> {
            fn deserialize_at_most<D: Deserializer<'de>>(
                max_len: usize,
                deserializer: D,
            ) -> Result<Self, D::Error> {
                Self::builder(max_len).deserialize(deserializer)
            }
        }
    )*};
}

bounded!(PageVec ConcurrentVec);
