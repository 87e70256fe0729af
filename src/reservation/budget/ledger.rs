//! A number of bytes and its limit: the arithmetic of all limits.

use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, SpinLock, fence, relax};

/// One number and its limit. Bytes are *taken* before the system is asked for them, and *used* once they
/// are committed.
///
/// Invariants: `used <= taken <= limit` whenever no thread is between two of its steps (but see
/// [`Account::recount`](super::Account::recount)); `taken <= limit` always. `peak` is the highest `used` that ever was.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// What somebody wants to take has to fit in one word, whatever the limit is: so this word counts from the
    /// largest limit, and what the limit is lower than that counts as occupied, too. Changing the limit is
    /// occupying the difference, or freeing it.
    ///
    /// Bytes in the lower bits; in the upper ones, how many takes are *tentative*: another limit may still
    /// refuse them, and then their bytes come back. Both are in one word, so that a thread that finds too few
    /// bytes left also sees whether some may come back.
    occupied: AtomicU64,
    used: AtomicUsize,
    peak: AtomicUsize,
    /// For messages and questions only.
    limit: AtomicUsize,
    /// How often the limit was changed, times two; odd while `limit` and `occupied` do not belong together.
    changes: AtomicU32,
    /// Held to change the limit.
    changing: SpinLock,
}

/// The error of a ledger that has too little left: its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) used: usize,
    pub(super) limit: usize,
}

/// One tentative take.
pub(super) const TENTATIVE: u64 = 1 << 57;

/// The largest limit. Whoever states a larger one means that there is none: no address space has more bytes.
const LARGEST: u64 = 1 << 56;

/// How many rounds a thread waits for the end of a tentative take. Bounded, because a signal handler may have
/// interrupted that take on the same thread, which then ends only after the handler.
const MOST_ROUNDS: u32 = 1024;

/// How often a thread asks again that was refused, and then found other numbers than those that refused it.
const MOST_ATTEMPTS: u32 = 64;

fn bytes_of(occupied: u64) -> u64 {
    occupied & (TENTATIVE - 1)
}

/// What is occupied while nothing is taken.
fn withheld(limit: usize) -> u64 {
    LARGEST.saturating_sub(limit as u64)
}

impl Ledger {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            occupied: AtomicU64::new(withheld(limit)),
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            changes: AtomicU32::new(0),
            changing: SpinLock::new(),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Bytes that can be taken now.
    pub(super) fn left(&self) -> usize {
        left_of(self.occupied.load(Ordering::Relaxed), 1)
    }

    /// Takes as much of `want` as is left, in multiples of `unit`, but at least `least`. Where `tentative`
    /// is [`TENTATIVE`], the take is to be ended by [`settle`](Self::settle); otherwise it is zero.
    pub(super) fn take(
        &self,
        least: usize,
        want: usize,
        unit: usize,
        tentative: u64,
    ) -> Result<usize, Full> {
        let mut attempt = 0;
        loop {
            let seen = match self.occupy(least, want, unit, tentative) {
                Ok(bytes) => return Ok(bytes),
                Err(seen) => seen,
            };
            if let Some(full) = self.is_full(seen, attempt) {
                return Err(full);
            }
            attempt += 1;
        }
    }

    /// The numbers of a refusal that this word led to; `None` where those of now might say that there is enough.
    #[cold]
    #[inline(never)] // keeps its stack use out of the path of served faults
    fn is_full(&self, seen: u64, attempt: u32) -> Option<Full> {
        let (now, limit) = self.look();
        (now == seen || attempt == MOST_ATTEMPTS).then(|| full(seen, limit))
    }

    /// As [`take`](Self::take), but returns the word that said that too little is left.
    ///
    /// While tentative takes are open, a shortage is not reported but waited out: their bytes come back if
    /// the other limit refuses them.
    fn occupy(&self, least: usize, want: usize, unit: usize, tentative: u64) -> Result<usize, u64> {
        let mut round = 0;
        let mut seen = self.occupied.load(Ordering::Relaxed);
        loop {
            let bytes = want.min(left_of(seen, unit));
            let others = seen / TENTATIVE;
            if bytes < least && (others == 0 || round == MOST_ROUNDS) {
                return Err(seen);
            }
            if bytes < least || (tentative > 0 && others == u64::MAX / TENTATIVE) {
                relax(&mut round);
                seen = self.occupied.load(Ordering::Relaxed);
                continue;
            }
            // Whoever gets bytes that came back also sees that `used` is less by them (see `give_back`).
            match self.occupied.compare_exchange_weak(
                seen,
                seen + bytes as u64 + tentative,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(bytes),
                Err(now) => seen = now,
            }
        }
    }

    /// What is occupied and the limit that it belongs to, at one moment. Where the limit is being changed for
    /// long (a signal handler may have interrupted that on the same thread), the two may be of two moments.
    fn look(&self) -> (u64, usize) {
        let mut round = 0;
        loop {
            let before = self.changes.load(Ordering::Acquire);
            let limit = self.limit();
            let occupied = self.occupied.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let is_whole =
                before.is_multiple_of(2) && self.changes.load(Ordering::Relaxed) == before;
            if is_whole || round == MOST_ROUNDS {
                return (occupied, limit);
            }
            relax(&mut round);
        }
    }

    /// Changes the limit, unless more is taken than it is to be: then the numbers are the error. What is taken
    /// never exceeds the limit, whoever takes at the same time.
    pub(super) fn set_limit(&self, limit: usize) -> Result<(), Full> {
        self.changing.lock();
        let before = self.limit();
        // (A thread of the parent may have left an odd number behind.)
        self.changes.fetch_or(1, Ordering::Relaxed);
        fence(Ordering::Release);
        let (old, new) = (withheld(before), withheld(limit));
        let result = if new > old {
            let more = (new - old) as usize;
            self.occupy(more, more, 1, 0)
                .map(|_| self.limit.store(limit, Ordering::Relaxed))
                .map_err(|seen| Full { limit, ..full(seen, before) })
        } else {
            self.limit.store(limit, Ordering::Relaxed);
            self.occupied.fetch_sub(old - new, Ordering::Relaxed);
            Ok(())
        };
        self.changes.fetch_add(1, Ordering::Release);
        self.changing.unlock();
        result
    }

    /// Ends a tentative take, of which `surplus` bytes come back.
    pub(super) fn settle(&self, surplus: usize) {
        self.occupied.fetch_sub(TENTATIVE + surplus as u64, Ordering::Relaxed);
    }

    /// Bytes that were taken are committed now.
    pub(super) fn commit(&self, bytes: usize) {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        self.peak.fetch_max(before + bytes, Ordering::Relaxed);
    }

    /// Bytes that were committed are not any more.
    pub(super) fn decommit(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "a ledger cannot give back more than was committed");
        self.give_back(bytes);
    }

    /// Bytes that were taken, and are not committed, come back.
    pub(super) fn give_back(&self, bytes: usize) {
        let before = self.occupied.fetch_sub(bytes as u64, Ordering::Release);
        debug_assert!(
            bytes_of(before) >= bytes as u64,
            "a ledger cannot give back more than was taken"
        );
    }

    /// Corrects a part of both numbers, from what it is in this ledger to what is true of it. Other threads
    /// may take from the ledger at the same time.
    pub(super) fn correct(&self, part: Part, committed: usize) {
        // (Adding what wraps around is subtracting.)
        let taken = (committed as u64).wrapping_sub(part.taken as u64);
        self.occupied.fetch_add(taken, Ordering::Relaxed);
        let more = committed.wrapping_sub(part.used);
        let used = self.used.fetch_add(more, Ordering::Relaxed).wrapping_add(more);
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    /// Sets both numbers, and ends tentative takes and changes of the limit. Only while no other thread uses
    /// the ledger.
    pub(super) fn set(&self, taken: usize, used: usize) {
        self.changes.fetch_and(!1, Ordering::Relaxed);
        self.occupied.store(withheld(self.limit()) + taken as u64, Ordering::Relaxed);
        self.used.store(used, Ordering::Relaxed);
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    /// Adds to both numbers. Only while no other thread uses the ledger.
    pub(super) fn add(&self, taken: usize, used: usize) {
        self.occupied.fetch_add(taken as u64, Ordering::Relaxed);
        let used = self.used.fetch_add(used, Ordering::Relaxed).wrapping_add(used);
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    /// Bytes that are taken, and how many takes are tentative.
    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, u64) {
        let (occupied, limit) = self.look();
        (full(occupied, limit).used, occupied / TENTATIVE)
    }

    /// As if a thread that is gone had been changing the limit. (The lock would be taken over.)
    #[cfg(test)]
    pub(super) fn begin_to_lower_the_limit_by(&self, bytes: usize) {
        self.changes.fetch_or(1, Ordering::Relaxed);
        self.occupy(bytes, bytes, 1, 0).unwrap();
    }
}

/// What a ledger has of one account.
pub(super) struct Part {
    pub(super) taken: usize,
    pub(super) used: usize,
}

fn left_of(occupied: u64, unit: usize) -> usize {
    // More than the limit is taken only in a forked child: see `Account::recount`.
    let left = LARGEST.saturating_sub(bytes_of(occupied)).min(usize::MAX as u64) as usize;
    // `checked_rem` cannot panic, which the fault handler must not.
    left - left.checked_rem(unit).unwrap_or(0)
}

fn full(occupied: u64, limit: usize) -> Full {
    let used = bytes_of(occupied).saturating_sub(withheld(limit));
    Full { used: used.min(usize::MAX as u64) as usize, limit }
}

/// Takes the same number of bytes from each ledger, from the first, or from none: as much of `want` as all of
/// them have left, in multiples of `unit`, but at least `least`. The error says which ledger has too little.
///
/// All takes but that of the last ledger are tentative until the last one granted its own. No recursion and no
/// buffer, since the fault handler comes here on a small stack.
pub(super) fn take_from_all<'a>(
    ledgers: impl Iterator<Item = &'a Ledger> + Clone,
    least: usize,
    want: usize,
    unit: usize,
) -> Result<usize, (usize, Full)> {
    let mut bytes = want;
    let mut index = 0;
    let mut rest = ledgers.clone();
    while let Some(ledger) = rest.next() {
        let tentative = if rest.clone().next().is_some() { TENTATIVE } else { 0 };
        match ledger.take(least, bytes, unit, tentative) {
            Ok(granted) if granted < bytes => {
                give_back(ledgers.clone().take(index), bytes - granted);
                bytes = granted;
            }
            Ok(_) => {}
            Err(full) => {
                settle(ledgers.take(index), bytes);
                return Err((index, full));
            }
        }
        index += 1;
    }
    settle(ledgers.take(index.saturating_sub(1)), 0);
    Ok(bytes)
}

#[inline(never)] // as `settle`
fn give_back<'a>(ledgers: impl Iterator<Item = &'a Ledger>, bytes: usize) {
    ledgers.for_each(|ledger| ledger.give_back(bytes));
}

#[inline(never)] // keeps its stack use out of the calls of `Ledger::take`
fn settle<'a>(ledgers: impl Iterator<Item = &'a Ledger>, surplus: usize) {
    ledgers.for_each(|ledger| ledger.settle(surplus));
}
