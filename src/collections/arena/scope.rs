//! Memory that is taken back when a closure returns.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{Arena, new_identity};

impl Arena {
    /// Calls `work` with an arena for what is needed only until it returns (or panics): then all that was allocated
    /// in that arena is free. What was allocated before stays, and may be in use meanwhile, which
    /// [`rewind`](Self::rewind) does not allow. Costs about as much as an allocation; the memory stays committed.
    ///
    /// `work` may also allocate in this arena, for results that outlive the scope. That keeps what the scope had
    /// allocated by then, too, since an arena frees from its end. Such allocations take a slower path; scopes may be
    /// nested to any depth.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let words = arena.alloc_slice_copy(&["b", "a", "c"]); // in use from here to the end
    /// let longest = arena.scope(|scratch| {
    ///     let sorted = scratch.alloc_slice_copy(words);
    ///     sorted.sort();
    ///     sorted.join(" ").len()
    /// });
    /// assert_eq!((longest, words[0]), (5, "b"));
    /// assert_eq!(arena.used(), size_of_val(words)); // the copy is gone
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// Nothing that the scope allocated leaves it:
    ///
    /// ```compile_fail
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let escaped = arena.scope(|scratch| scratch.alloc(1));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn scope<R>(&self, work: impl FnOnce(&Arena) -> R) -> R {
        if let Some(open) = self.open_scope() {
            return open.scope(work);
        }
        let scope = Arena {
            next: self.next.clone(),
            ready: self.ready.clone(),
            start: self.start,
            ground: Rc::clone(&self.ground),
            scope: Cell::new(None),
            identity: new_identity(),
            rewinds: 0,
        };
        let _open = Open::new(self, &scope);
        work(&scope)
    }

    /// The arena of the scope that is open.
    #[inline]
    pub(super) fn open_scope(&self) -> Option<&Arena> {
        // SAFETY: it lives until it is closed, which does not happen as long as the result is used: no caller in
        // this module calls foreign code meanwhile but `scope`, inside which it stays open.
        self.scope.get().map(|scope| unsafe { scope.as_ref() })
    }
}

/// A scope that is open; dropping this closes it.
struct Open<'a> {
    outer: &'a Arena,
    scope: &'a Arena,
}

impl<'a> Open<'a> {
    fn new(outer: &'a Arena, scope: &'a Arena) -> Self {
        outer.scope.set(Some(NonNull::from(scope)));
        outer.ready.set(0);
        Self { outer, scope }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.outer.scope.set(None);
        self.outer.ready.set(self.scope.ready.get());
        // The outer arena goes on behind its own last allocation, wherever that is.
        self.scope.move_back(self.outer.next.get());
    }
}
