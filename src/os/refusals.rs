//! Refusals on request: a layer above the system's calls, in which a test has some of them refused.
//!
//! No normal build contains it. `--cfg pagewise_refusals` puts it above the real system, so that the real engines meet
//! refusals that no system gives on demand; the simulated system and loom's models always have it. The functions below
//! have the names and signatures of the system's own, which they call.
//!
//! A refusal holds for the thread that asked for it, so tests that run at the same time do not disturb one another. The
//! fault handler runs on the thread that faulted, and meets the refusals of that thread.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

use super::{Access, Attributes, OsError, Span, system};

#[cfg(any(miri, pagewise_model))]
pub use super::imp::is_accessible;

/// The calls that can be refused, named as the functions of `os`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Call {
    Reserve,
    Release,
    Commit,
    Decommit,
    Zero,
    Discard,
    Protect,
    Lock,
    Unlock,
    GuardInstall,
    GuardRemove,
    UserFaultCommit,
}

/// Which calls are refused, and what they do before that. Every call of one kind, unless a method below narrows it.
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is refused before `begin`"]
pub struct Refusal {
    call: Call,
    longer_than: usize,
    addresses: (usize, usize),
    spared: usize,
    times: usize,
    half_done: bool,
    written: Option<u8>,
    refused: usize,
}

/// Refuses until it is dropped.
#[must_use = "refusals end when this is dropped"]
pub struct Refusing {
    slot: usize,
    of_this_thread: PhantomData<*const ()>,
}

/// What refused calls return: `ENOMEM`.
const REFUSED: OsError = OsError(12);

const ANYWHERE: (usize, usize) = (0, usize::MAX);

thread_local! {
    /// Without a destructor and without allocation, since the fault handler reads it.
    static REFUSALS: Cell<[Option<Refusal>; 4]> = const { Cell::new([None; 4]) };
}

impl Refusal {
    /// Refuses every call of one kind.
    pub const fn of(call: Call) -> Self {
        Self {
            call,
            longer_than: 0,
            addresses: ANYWHERE,
            spared: 0,
            times: usize::MAX,
            half_done: false,
            written: None,
            refused: 0,
        }
    }

    /// Only calls for more than `bytes` bytes.
    pub const fn longer_than(mut self, bytes: usize) -> Self {
        self.longer_than = bytes;
        self
    }

    /// Only calls whose range has one of these addresses in it. (Not for `Reserve`, which has none yet.)
    pub fn touching(mut self, addresses: Range<*mut u8>) -> Self {
        self.addresses = (addresses.start.addr(), addresses.end.addr());
        self
    }

    /// Grants the first `calls` of the calls that would be refused.
    pub const fn after(mut self, calls: usize) -> Self {
        self.spared = calls;
        self
    }

    /// Refuses no more than `calls` calls.
    pub const fn times(mut self, calls: usize) -> Self {
        self.times = calls;
        self
    }

    /// A refused call does a part before it returns its error: what lies before the addresses of
    /// [`touching`](Self::touching), or without those, half of its pages.
    pub const fn half_done(mut self) -> Self {
        self.half_done = true;
        self
    }

    /// As [`half_done`](Self::half_done). Before the call returns, it writes a byte to each page that it has made
    /// accessible, as another thread could do.
    pub const fn half_done_and_written(mut self, value: u8) -> Self {
        self.half_done = true;
        self.written = Some(value);
        self
    }

    /// Refuses from now on. Where several refusals apply to a call, the one that began first counts.
    ///
    /// # Panics
    /// Where four refusals are under way.
    pub fn begin(self) -> Refusing {
        let mut all = REFUSALS.get();
        let slot = all.iter().position(Option::is_none).expect("no more than four refusals");
        all[slot] = Some(self);
        REFUSALS.set(all);
        Refusing { slot, of_this_thread: PhantomData }
    }

    fn concerns(&self, call: Call, start: usize, len: usize) -> bool {
        let (first, end) = self.addresses;
        self.call == call && len > self.longer_than && start < end && start + len > first
    }

    /// The bytes that a refused call still does: whole pages, and not all of them.
    fn done(&self, start: usize, len: usize) -> usize {
        let page = super::page_size();
        if !self.half_done {
            0
        } else if self.addresses == ANYWHERE {
            len / 2 / page * page
        } else {
            self.addresses.0.saturating_sub(start) / page * page
        }
    }
}

impl Refusing {
    /// How many calls were refused so far.
    pub fn refused(&self) -> usize {
        REFUSALS.get()[self.slot].map_or(0, |refusal| refusal.refused)
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        let mut all = REFUSALS.get();
        all[self.slot] = None;
        REFUSALS.set(all);
    }
}

/// The refusal that applies to a call, if one does; counts it.
fn met(call: Call, start: usize, len: usize) -> Option<Refusal> {
    let mut all = REFUSALS.get();
    let met = all.iter_mut().flatten().find_map(|refusal| {
        if !refusal.concerns(call, start, len) || refusal.refused == refusal.times {
            return None;
        }
        if refusal.spared > 0 {
            refusal.spared -= 1;
            return None;
        }
        refusal.refused += 1;
        Some(*refusal)
    });
    REFUSALS.set(all);
    met
}

/// Makes a call, or refuses it.
fn ask(
    call: Call,
    start: NonNull<u8>,
    len: usize,
    make: impl Fn(usize) -> Result<(), OsError>,
) -> Result<(), OsError> {
    let Some(refusal) = met(call, start.as_ptr().addr(), len) else { return make(len) };
    let done = refusal.done(start.as_ptr().addr(), len);
    if done > 0 {
        make(done)?;
        if let Some(value) = refusal.written {
            for offset in (0..done).step_by(super::page_size()) {
                // SAFETY: the call has made these pages accessible, and its caller holds them.
                unsafe { start.add(offset).write(value) };
            }
        }
    }
    Err(REFUSED)
}

pub(crate) fn reserve(
    len: usize,
    align: usize,
    attributes: &Attributes,
) -> Result<NonNull<u8>, OsError> {
    match met(Call::Reserve, 0, len) {
        Some(_) => Err(REFUSED),
        None => system::reserve(len, align, attributes),
    }
}

macro_rules! calls {
    ($($name:ident: $call:ident($($argument:ident: $type:ty)?);)*) => {
        $(
            /// # Safety
            /// As for the system's function of this name.
            pub(crate) unsafe fn $name(
                start: NonNull<u8>,
                len: usize,
                $($argument: $type)?
            ) -> Result<(), OsError> {
                ask(Call::$call, start, len, |len| {
                    // SAFETY: the caller's promise, for a part of the range.
                    unsafe { system::$name(start, len, $($argument)?) }
                })
            }
        )*
    };
}

calls! {
    release: Release();
    commit: Commit();
    decommit: Decommit(attributes: &Attributes);
    zero: Zero();
    discard: Discard();
    protect: Protect(access: Access);
    lock: Lock();
    unlock: Unlock();
    guard_install: GuardInstall();
    guard_remove: GuardRemove();
    userfault_commit: UserFaultCommit();
}

/// `zero` of each: those before the one that is refused are done.
///
/// # Safety
/// As for the system's function of this name.
pub(crate) unsafe fn zero_each(spans: &[Span]) -> Result<(), OsError> {
    let is_refused = |span: &Span| met(Call::Zero, span.start.as_ptr().addr(), span.len).is_some();
    let granted = spans.iter().position(is_refused);
    // SAFETY: the caller's promise.
    unsafe { system::zero_each(spans.get(..granted.unwrap_or(spans.len())).unwrap_or_default())? };
    if granted.is_some() { Err(REFUSED) } else { Ok(()) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Which of some calls, given by start and length in pages, are refused.
    fn refused(refusal: Refusal, calls: &[(usize, usize)]) -> Vec<usize> {
        let page = super::super::page_size();
        let refusing = refusal.begin();
        let refused: Vec<_> = (0..calls.len())
            .filter(|&call| met(Call::Commit, calls[call].0 * page, calls[call].1 * page).is_some())
            .collect();
        assert_eq!(refusing.refused(), refused.len());
        refused
    }

    #[test]
    fn calls_are_refused_by_kind_size_place_and_number() {
        let page = super::super::page_size();
        let all = Refusal::of(Call::Commit);
        let calls = [(1, 1), (4, 4), (8, 1), (2, 7)];
        let addresses = |first: usize, end: usize| {
            std::ptr::without_provenance_mut(first * page)
                ..std::ptr::without_provenance_mut(end * page)
        };
        assert_eq!(refused(all, &calls), [0, 1, 2, 3]);
        assert_eq!(refused(Refusal::of(Call::Decommit), &calls), [0; 0]);
        assert_eq!(refused(all.longer_than(page), &calls), [1, 3]);
        assert_eq!(refused(all.touching(addresses(7, 8)), &calls), [1, 3]);
        assert_eq!(refused(all.touching(addresses(8, 9)), &calls), [2, 3]);
        assert_eq!(refused(all.after(1), &calls), [1, 2, 3]);
        assert_eq!(refused(all.after(1).times(2), &calls), [1, 2]);
        assert_eq!(refused(all.longer_than(page).after(1), &calls), [3]);
        let part = all.touching(addresses(7, 8)).half_done();
        assert_eq!(part.done(4 * page, 4 * page), 3 * page);
        assert_eq!(part.done(7 * page, 4 * page), 0);
        assert_eq!(all.half_done().done(page, 5 * page), 2 * page);
        assert_eq!(all.done(page, 5 * page), 0);
    }

    #[test]
    fn refusals_end_and_are_asked_in_their_order() {
        let len = super::super::page_size();
        let first = Refusal::of(Call::Lock).times(1).begin();
        let second = Refusal::of(Call::Lock).after(1).begin();
        assert!(met(Call::Lock, len, len).is_some(), "by the first one");
        assert!(met(Call::Lock, len, len).is_none(), "spared by the second one");
        assert!(met(Call::Lock, len, len).is_some(), "by the second one");
        assert_eq!((first.refused(), second.refused()), (1, 1));
        drop((first, second));
        assert!(met(Call::Lock, len, len).is_none());
    }
}
