//! Replacing a range of elements.

use std::fmt;
use std::iter::FusedIterator;
use std::panic::Location;

use super::Drain;
use crate::error::Error;

/// The elements that a [`PageVec::splice`](super::PageVec::splice) takes out; those that it puts in
/// are put in when this is dropped.
///
/// ```
/// let mut route = pagewise::PageVec::try_from_iter(100, ["A", "B", "D"])?;
/// let skipped: Vec<_> = route.splice(1..2, ["C1", "C2"]).collect();
/// assert_eq!((skipped, route.as_slice()), (vec!["B"], &["A", "C1", "C2", "D"][..]));
/// # Ok::<(), pagewise::Error>(())
/// ```
pub struct Splice<'a, I: Iterator + 'a> {
    drain: Drain<'a, I::Item>,
    replace_with: I,
    /// A destructor has no caller: its panic says where it was made instead.
    made_at: &'static Location<'static>,
}

impl<'a, I: Iterator> Splice<'a, I> {
    #[track_caller]
    pub(super) fn new(drain: Drain<'a, I::Item>, replace_with: I) -> Self {
        Self { drain, replace_with, made_at: Location::caller() }
    }

    /// Puts the elements in, as far as growing is granted.
    fn put_in(&mut self) -> Result<(), Error> {
        self.drain.drop_rest();
        if self.drain.tail_len() == 0 {
            return self.drain.vec_without_tail().extend_until_refused(self.replace_with.by_ref());
        }
        if !self.drain.fill(&mut self.replace_with) {
            return Ok(());
        }
        let (at_least, _) = self.replace_with.size_hint();
        if at_least > 0 {
            self.drain.move_tail(at_least)?;
            if !self.drain.fill(&mut self.replace_with) {
                return Ok(());
            }
        }
        // How many more come is known only once they are here.
        let mut rest = self.replace_with.by_ref().collect::<Vec<_>>().into_iter();
        if rest.len() > 0 {
            self.drain.move_tail(rest.len())?;
            let filled = self.drain.fill(&mut rest);
            debug_assert!(filled && rest.len() == 0);
        }
        Ok(())
    }
}

impl<I: Iterator> Iterator for Splice<'_, I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.drain.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.drain.size_hint()
    }
}

impl<I: Iterator> DoubleEndedIterator for Splice<'_, I> {
    fn next_back(&mut self) -> Option<I::Item> {
        self.drain.next_back()
    }
}

impl<I: Iterator> ExactSizeIterator for Splice<'_, I> {}
impl<I: Iterator> FusedIterator for Splice<'_, I> {}

impl<I: Iterator> Drop for Splice<'_, I> {
    fn drop(&mut self) {
        // Wherever a panic comes from, `drain` is dropped next, and the tail comes back.
        if let Err(error) = self.put_in() {
            panic!("a PageVec cannot grow: {error} (spliced at {})", self.made_at);
        }
    }
}

impl<I: Iterator + fmt::Debug> fmt::Debug for Splice<'_, I>
where
    I::Item: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Splice").field(&self.drain).finish()
    }
}
