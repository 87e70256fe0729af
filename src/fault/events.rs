//! The queue of fault events: the fault handler fills it, ordinary code empties it.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// One served or refused page fault.
///
/// ```
/// use pagewise::{DemandRegion, FaultOutcome};
///
/// let mut region = DemandRegion::builder(1 << 30).events(16).build()?;
/// region.as_mut_slice()[123_456_789] = 1;
/// for event in region.events() {
///     assert_eq!(event.offset, 123_456_789);
///     assert!(event.write != Some(false) && matches!(event.outcome, FaultOutcome::Committed { .. }));
/// }
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultEvent {
    /// The byte that was touched, from the start of the region.
    pub offset: usize,
    /// Whether it was a write; `None` where the system does not tell.
    pub write: Option<bool>,
    /// What came of it.
    pub outcome: FaultOutcome,
}

/// What came of a page fault.
///
/// ```
/// use pagewise::{DemandRegion, FaultOutcome};
///
/// let mut region = DemandRegion::builder(1 << 30).limit(64 << 10).events(16).build()?;
/// let _ = region.write(0, &[1; 128 << 10]); // too much
/// let outcomes: Vec<_> = region.events().map(|event| event.outcome).collect();
/// assert!(matches!(outcomes[0], FaultOutcome::Committed { start: 0, .. }));
/// assert_eq!(outcomes.last(), Some(&FaultOutcome::Refused));
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultOutcome {
    /// These bytes were committed.
    Committed {
        /// First byte, from the start of the region.
        start: usize,
        /// How many bytes.
        len: usize,
    },
    /// The limit was reached, or the system said no; in a [`PagedRegion`](crate::PagedRegion), also: the store could not
    /// read the page, or every page that could make room is pinned or cannot be written.
    Refused,
    /// In a [`PagedRegion`](crate::PagedRegion): these bytes came from the store.
    Loaded {
        /// First byte, from the start of the region.
        start: usize,
        /// How many bytes: a page of the region.
        len: usize,
    },
    /// In a [`PagedRegion`](crate::PagedRegion): these bytes were about to leave the memory, and stay.
    Rescued {
        /// First byte, from the start of the region.
        start: usize,
        /// How many bytes: a page of the region.
        len: usize,
    },
    /// In a [`PagedRegion`](crate::PagedRegion): these bytes could be read, and were written for the first time since they
    /// came or were last written back.
    Changed {
        /// First byte, from the start of the region.
        start: usize,
        /// How many bytes: a page of the region.
        len: usize,
    },
}

/// A bounded queue that many handlers fill and one reader at a time empties. Never blocks: what does
/// not fit is counted.
///
/// Invariant: a slot whose turn is `n` is free for the event with number `n`; one whose turn is
/// `n + 1` holds that event.
#[derive(Debug)]
pub(crate) struct EventRing {
    slots: Box<[Slot]>,
    head: AtomicUsize,
    tail: AtomicUsize,
    lost: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    turn: AtomicUsize,
    offset: AtomicUsize,
    start: AtomicUsize,
    /// The length in bytes in the upper bits; below them the outcome, and the kind of access.
    len_and_kind: AtomicUsize,
}

const WRITE: usize = 1;
const READ: usize = 2;

const OUTCOME: usize = 2;
const COMMITTED: usize = 0;
const REFUSED: usize = 1;
const LOADED: usize = 2;
const RESCUED: usize = 3;
const CHANGED: usize = 4;

const LEN: usize = 5;

impl EventRing {
    /// Room for at least `capacity` events; none at all for zero.
    pub(crate) fn new(capacity: usize) -> Self {
        // With a single slot, "holds event 0" and "is free for event 1" would be the same turn.
        let slots = if capacity == 0 { 0 } else { capacity.next_power_of_two().max(2) };
        let slot = |turn| Slot {
            turn: AtomicUsize::new(turn),
            offset: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            len_and_kind: AtomicUsize::new(0),
        };
        Self {
            slots: (0..slots).map(slot).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// `None` where there are no slots at all.
    fn slot(&self, number: usize) -> Option<&Slot> {
        self.slots.get(number & self.slots.len().wrapping_sub(1))
    }

    /// Async-signal-safe.
    pub(crate) fn push(&self, event: FaultEvent) {
        let mut number = self.tail.load(Ordering::Relaxed);
        let slot = loop {
            let Some(slot) = self.slot(number) else { return };
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == number {
                let next = number.wrapping_add(1);
                match self.tail.compare_exchange_weak(
                    number,
                    next,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => break slot,
                    Err(now) => number = now,
                }
            } else if turn.wrapping_sub(number) > usize::MAX / 2 {
                // The event from one round before is still there: full.
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            } else {
                number = self.tail.load(Ordering::Relaxed);
            }
        };
        let access = match event.write {
            Some(true) => WRITE,
            Some(false) => READ,
            None => 0,
        };
        let (start, len, outcome) = match event.outcome {
            FaultOutcome::Committed { start, len } => (start, len, COMMITTED),
            FaultOutcome::Refused => (0, 0, REFUSED),
            FaultOutcome::Loaded { start, len } => (start, len, LOADED),
            FaultOutcome::Rescued { start, len } => (start, len, RESCUED),
            FaultOutcome::Changed { start, len } => (start, len, CHANGED),
        };
        slot.offset.store(event.offset, Ordering::Relaxed);
        slot.start.store(start, Ordering::Relaxed);
        slot.len_and_kind.store(len << LEN | outcome << OUTCOME | access, Ordering::Relaxed);
        slot.turn.store(number.wrapping_add(1), Ordering::Release);
    }

    /// In the child of a fork, on its only thread: drops events that threads of the parent were writing, moves
    /// the complete ones together, and frees all other slots. Async-signal-safe.
    pub(crate) fn end_abandoned_changes(&self) {
        let (head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        let mut kept = head;
        for number in (0..tail.wrapping_sub(head)).map(|index| head.wrapping_add(index)) {
            let (Some(from), Some(to)) = (self.slot(number), self.slot(kept)) else { return };
            if from.turn.load(Ordering::Acquire) == number.wrapping_add(1) {
                to.copy(from);
                to.turn.store(kept.wrapping_add(1), Ordering::Relaxed);
                kept = kept.wrapping_add(1);
            } else {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        for index in kept.wrapping_sub(head)..self.slots.len() {
            let number = head.wrapping_add(index);
            let Some(slot) = self.slot(number) else { return };
            slot.turn.store(number, Ordering::Relaxed);
        }
        self.tail.store(kept, Ordering::Relaxed);
    }

    /// The oldest event.
    pub(crate) fn pop(&self) -> Option<FaultEvent> {
        let mut number = self.head.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(number)?;
            if slot.turn.load(Ordering::Acquire) != number.wrapping_add(1) {
                // Empty, or its writer is not done; or another reader was faster.
                let now = self.head.load(Ordering::Relaxed);
                if now == number {
                    return None;
                }
                number = now;
                continue;
            }
            let (offset, start) =
                (slot.offset.load(Ordering::Relaxed), slot.start.load(Ordering::Relaxed));
            let packed = slot.len_and_kind.load(Ordering::Relaxed);
            let next = number.wrapping_add(1);
            match self.head.compare_exchange_weak(
                number,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let free = number.wrapping_add(self.slots.len());
                    slot.turn.store(free, Ordering::Release);
                    return Some(unpack(offset, start, packed));
                }
                Err(now) => number = now,
            }
        }
    }
}

impl Slot {
    /// Copies everything but the turn.
    fn copy(&self, from: &Self) {
        self.offset.store(from.offset.load(Ordering::Relaxed), Ordering::Relaxed);
        self.start.store(from.start.load(Ordering::Relaxed), Ordering::Relaxed);
        self.len_and_kind.store(from.len_and_kind.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn unpack(offset: usize, start: usize, packed: usize) -> FaultEvent {
    let write = match packed & (WRITE | READ) {
        WRITE => Some(true),
        READ => Some(false),
        _ => None,
    };
    let len = packed >> LEN;
    let outcome = match (packed & ((1 << LEN) - 1)) >> OUTCOME {
        COMMITTED => FaultOutcome::Committed { start, len },
        LOADED => FaultOutcome::Loaded { start, len },
        RESCUED => FaultOutcome::Rescued { start, len },
        CHANGED => FaultOutcome::Changed { start, len },
        _ => FaultOutcome::Refused,
    };
    FaultEvent { offset, write, outcome }
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
impl EventRing {
    /// Makes the first step of a writer and no other: takes a slot, and leaves it empty.
    pub(crate) fn begin_and_abandon_a_push(&self) {
        self.tail.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes the first step of a reader and no other: takes the oldest event, and does not free its slot.
    pub(crate) fn begin_and_abandon_a_pop(&self) {
        self.head.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn event(offset: usize) -> FaultEvent {
        let outcome = FaultOutcome::Committed { start: offset & !4095, len: 4096 };
        FaultEvent { offset, write: Some(true), outcome }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_order_is_kept() {
        let ring = EventRing::new(3);
        (0..6).for_each(|i| ring.push(event(i * 5000)));
        assert_eq!(ring.lost(), 2);
        let seen: Vec<_> = std::iter::from_fn(|| ring.pop()).collect();
        assert_eq!(seen, (0..4).map(|i| event(i * 5000)).collect::<Vec<_>>());
        ring.push(FaultEvent { offset: 9, write: None, outcome: FaultOutcome::Refused });
        assert_eq!(ring.pop().unwrap().outcome, FaultOutcome::Refused);
        assert_eq!(ring.pop(), None);
    }

    #[test]
    fn the_smallest_ring_keeps_events_and_counts_the_others() {
        let ring = EventRing::new(1);
        (0..40).for_each(|i| ring.push(event(i)));
        let seen: Vec<_> = std::iter::from_fn(|| ring.pop()).collect();
        assert_eq!(seen, [event(0), event(1)]);
        assert_eq!(ring.lost(), 38);
        ring.push(event(77));
        assert_eq!((ring.pop(), ring.pop()), (Some(event(77)), None));
    }

    #[test]
    fn a_forked_child_loses_what_others_were_putting_down_and_nothing_else() {
        let ring = EventRing::new(8);
        (0..6).for_each(|i| ring.push(event(i)));
        assert_eq!((ring.pop(), ring.pop()), (Some(event(0)), Some(event(1))));
        // One is taken by a reader, one half put down, one full one follows.
        ring.head.store(3, Ordering::Relaxed);
        ring.slot(4).unwrap().turn.store(4, Ordering::Relaxed);
        // (Twice: a region may be found twice.)
        ring.end_abandoned_changes();
        ring.end_abandoned_changes();
        assert_eq!(ring.lost(), 1);
        (6..13).for_each(|i| ring.push(event(i)));
        assert_eq!(ring.lost(), 2, "there is room for six more");
        let seen: Vec<_> = std::iter::from_fn(|| ring.pop()).map(|event| event.offset).collect();
        assert_eq!(seen, [3, 5, 6, 7, 8, 9, 10, 11]);
        (0..100).for_each(|i| {
            ring.push(event(i));
            assert_eq!(ring.pop(), Some(event(i)));
        });
    }

    #[test]
    fn no_events_are_lost_or_doubled_between_threads() {
        let ring = EventRing::new(1 << 17);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ring = &ring;
                scope.spawn(move || (0..25_000).for_each(|i| ring.push(event(i * 4 + thread))));
            }
        });
        let mut seen: Vec<_> = std::iter::from_fn(|| ring.pop()).map(|e| e.offset).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100_000).collect::<Vec<_>>());
    }
}
