//! Moving elements in from other containers, and out into them.

use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use super::super::frontier::Growth;
use super::super::push_error::PushError;
use super::PageVec;
use crate::error::Error;

/// Bytes of addresses for an array whose maximum length nobody stated. So few that a process has addresses
/// for as many arrays as Linux lets it have mappings.
const DEFAULT_BYTES: usize = if usize::BITS < 64 { 64 << 20 } else { 4 << 30 };

impl<T> PageVec<T> {
    /// The maximum length of an array that [`Default`] or `try_from` makes, where nobody can state one: as
    /// many elements as fit into 4 GiB of addresses, or into 64 MiB where addresses have 32 bits. The array
    /// takes less where addresses are scarce: [`max_len`](Self::max_len) says what it came to.
    ///
    /// ```
    /// assert_eq!(pagewise::PageVec::<[u8; 2]>::DEFAULT_MAX_LEN, pagewise::PageVec::<u8>::DEFAULT_MAX_LEN / 2);
    /// ```
    pub const DEFAULT_MAX_LEN: usize = match size_of::<T>() {
        0 => usize::MAX,
        size if size > DEFAULT_BYTES => 1,
        size => DEFAULT_BYTES / size,
    };

    /// An array of the default maximum length, or of `len` where that is more, with memory for `len`.
    pub(crate) fn with_room_for(len: usize) -> Result<Self, Error> {
        let mut vec = Self::builder(Self::DEFAULT_MAX_LEN.max(len)).at_least(len).build()?;
        vec.grow(len, Growth::Amortized)?;
        Ok(vec)
    }

    /// Appends `count` elements that move here from another place.
    ///
    /// # Safety
    /// There is room for them; they are initialised, lie outside of this array, and do not count any more at
    /// their old place.
    pub(super) unsafe fn move_in(&mut self, from: *const T, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(from, self.start.as_ptr().add(self.len), count) };
        self.len += count;
    }

    /// Moves all elements to another place. The memory stays until the array is dropped.
    ///
    /// # Safety
    /// There is room for them at `to`, outside of this array.
    unsafe fn move_out(&mut self, to: *mut T) {
        let count = mem::take(&mut self.len);
        // SAFETY: the caller's promise. The elements move: the array is empty now.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr(), to, count) };
    }

    /// Moves the elements into a `Vec`: they get new addresses, and the array's memory is released.
    ///
    /// ```
    /// let lines = pagewise::PageVec::try_from_iter(1000, ["one", "two"])?;
    /// let lines: Vec<&str> = lines.into_vec();
    /// assert_eq!(lines, ["one", "two"]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn into_vec(mut self) -> Vec<T> {
        let mut vec = Vec::with_capacity(self.len);
        let len = self.len;
        // SAFETY: there is room for as many, and they are initialised afterwards.
        unsafe {
            self.move_out(vec.as_mut_ptr());
            vec.set_len(len);
        }
        vec
    }

    /// Moves the elements into a boxed slice: they get new addresses, and the array's memory is released.
    ///
    /// ```
    /// let table = pagewise::PageVec::try_from_iter(1000, 0..3)?.into_boxed_slice();
    /// assert_eq!(*table, [0, 1, 2]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn into_boxed_slice(self) -> Box<[T]> {
        self.into_vec().into_boxed_slice()
    }
}

/// An empty array of at most [`DEFAULT_MAX_LEN`](PageVec::DEFAULT_MAX_LEN) elements: for fields of structs
/// that derive `Default`, and for [`mem::take`]. It reserves addresses, as each array does, and commits nothing.
/// Prefer [`new`](PageVec::new), which states the maximum.
///
/// ```
/// use pagewise::PageVec;
///
/// #[derive(Default)]
/// struct World {
///     positions: PageVec<[f32; 3]>,
/// }
/// let mut world = World::default();
/// world.positions.push([0.0; 3]);
/// let before = std::mem::take(&mut world.positions);
/// assert_eq!((before.len(), world.positions.len()), (1, 0));
/// ```
impl<T> Default for PageVec<T> {
    /// # Panics
    /// Where [`new`](PageVec::new) returns an error.
    #[track_caller]
    fn default() -> Self {
        super::granted(Self::with_room_for(0))
    }
}

/// Moves the elements into an array of at most [`DEFAULT_MAX_LEN`](PageVec::DEFAULT_MAX_LEN) elements, or of
/// as many as there are where that is more. What cannot be reserved or committed comes back in the error.
/// ([`try_from_iter`](PageVec::try_from_iter) takes a maximum.)
///
/// ```
/// use pagewise::PageVec;
///
/// let mut words = PageVec::try_from(vec!["a", "b"])?;
/// words.push("c");
/// assert_eq!(words, ["a", "b", "c"]);
/// # Ok::<(), pagewise::Error>(())
/// ```
impl<T> TryFrom<Vec<T>> for PageVec<T> {
    type Error = PushError<Vec<T>>;

    fn try_from(mut elements: Vec<T>) -> Result<Self, Self::Error> {
        let mut vec = match Self::with_room_for(elements.len()) {
            Ok(vec) => vec,
            Err(error) => return Err(PushError::new(elements, error)),
        };
        // SAFETY: there is room; the elements move, since the source is empty afterwards.
        unsafe {
            vec.move_in(elements.as_ptr(), elements.len());
            elements.set_len(0);
        }
        Ok(vec)
    }
}

/// As from a `Vec`.
impl<T> TryFrom<Box<[T]>> for PageVec<T> {
    type Error = PushError<Box<[T]>>;

    fn try_from(elements: Box<[T]>) -> Result<Self, Self::Error> {
        Self::try_from(elements.into_vec()).map_err(|refused| {
            let (elements, error) = refused.into_parts();
            PushError::new(elements.into_boxed_slice(), error)
        })
    }
}

/// As from a `Vec`.
impl<T, const N: usize> TryFrom<[T; N]> for PageVec<T> {
    type Error = PushError<[T; N]>;

    fn try_from(elements: [T; N]) -> Result<Self, Self::Error> {
        let mut vec = match Self::with_room_for(N) {
            Ok(vec) => vec,
            Err(error) => return Err(PushError::new(elements, error)),
        };
        let elements = ManuallyDrop::new(elements);
        // SAFETY: there is room; the elements move, since the source is not dropped.
        unsafe { vec.move_in(elements.as_ptr(), N) };
        Ok(vec)
    }
}

/// Clones the elements; otherwise as from a `Vec`.
impl<T: Clone> TryFrom<&[T]> for PageVec<T> {
    type Error = Error;

    fn try_from(elements: &[T]) -> Result<Self, Error> {
        let mut vec = Self::with_room_for(elements.len())?;
        vec.try_extend_from_slice(elements)?;
        Ok(vec)
    }
}

/// Moves the elements: they get new addresses.
impl<T> From<PageVec<T>> for Vec<T> {
    fn from(elements: PageVec<T>) -> Self {
        elements.into_vec()
    }
}

/// Moves the elements: they get new addresses.
impl<T> From<PageVec<T>> for Box<[T]> {
    fn from(elements: PageVec<T>) -> Self {
        elements.into_boxed_slice()
    }
}

macro_rules! into_shared_slice {
    ($($pointer:ident)*) => {$(
        /// Moves the elements, once: they get new addresses.
        impl<T> From<PageVec<T>> for $pointer<[T]> {
            fn from(mut elements: PageVec<T>) -> Self {
                let mut slots = $pointer::<[T]>::new_uninit_slice(elements.len);
                let to = $pointer::get_mut(&mut slots).expect("nobody else has them yet");
                // SAFETY: there is room for as many, and they are initialised afterwards.
                unsafe {
                    elements.move_out(to.as_mut_ptr().cast());
                    slots.assume_init()
                }
            }
        }
    )*};
}

into_shared_slice!(Arc Rc);

/// Moves the elements into an array of exactly as many, or hands them back.
///
/// ```
/// let pair = pagewise::PageVec::try_from_iter(10, ["key", "value"])?;
/// let [key, value] = <[&str; 2]>::try_from(pair).unwrap();
/// assert_eq!((key, value), ("key", "value"));
/// # Ok::<(), pagewise::Error>(())
/// ```
impl<T, const N: usize> TryFrom<PageVec<T>> for [T; N] {
    type Error = PageVec<T>;

    fn try_from(mut elements: PageVec<T>) -> Result<Self, PageVec<T>> {
        if elements.len != N {
            return Err(elements);
        }
        elements.len = 0;
        // SAFETY: the array had as many elements, which move: it is empty now.
        Ok(unsafe { elements.start.cast::<[T; N]>().read() })
    }
}
