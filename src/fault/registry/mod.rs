//! The ranges of addresses whose faults pagewise serves. The fault handler looks them up wait-free, also
//! while other threads add and remove ranges.
//!
//! A hash table of pointers. A range is of *size class* `k` where `2^(k-1) < len <= 2^k`. It lies in at most two
//! aligned blocks of `2^k` bytes, and is entered under both. So a lookup looks at one place for each size class in
//! use, and takes as long among ten thousand ranges of equal size as with one.
//!
//! A reader increments one of two counters while it uses the table. A thread that removes a range clears its
//! slots, then waits until each counter was zero once: from then on no reader can be using the range.
//! (Readers are fault handlers. They are short, and never wait for a thread that removes a range. An owner whose faults
//! may take long counts its guests itself, and they do not count as readers.)

use std::cell::Cell;
use std::ptr;

use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, SpinLock, fence, relax};

/// A range of addresses, and the functions that serve its faults and repair it after a fork.
pub(crate) struct Registered {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Passed to `serve` and `forked`.
    pub(crate) owner: *const (),
    /// The name of the file that is mapped there, in ASCII, for the line about a refused access; empty for a region.
    /// Lives as long as the entry.
    pub(crate) file: *const [u8],
    /// For an owner whose faults may take long: counts the handlers that serve one. Such an owner, and this entry, live
    /// until there is none, after the range was removed. Null for the others, for whom the registry sees to that.
    pub(crate) guests: *const AtomicUsize,
    /// Serves a fault at an address of the range. Async-signal-safe.
    ///
    /// # Safety
    /// `owner` is that of this entry, which is registered, or was when a reader found it that is not done yet.
    pub(crate) serve: unsafe fn(owner: *const (), fault: super::Fault) -> super::Outcome,
    /// Repairs the owner in the child of a fork. Async-signal-safe.
    ///
    /// # Safety
    /// As for `serve`.
    #[cfg_attr(windows, allow(dead_code))] // no fork there
    pub(crate) forked: unsafe fn(owner: *const ()),
}

impl Registered {
    fn class(&self) -> u32 {
        (self.end - self.start).next_power_of_two().trailing_zeros()
    }

    /// The blocks under which the range is entered: one or two.
    fn blocks(&self) -> impl Iterator<Item = usize> {
        let (first, last) = (self.start >> self.class(), (self.end - 1) >> self.class());
        [Some(first), (last != first).then_some(last)].into_iter().flatten()
    }

    fn contains(&self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// Invariant: every pointer in `table` is to a table that lives until it was replaced and the readers
/// drained; every entry in it that is neither null nor [`REMOVED`] is to a [`Registered`] that lives
/// until it was removed and the readers drained. Only the holder of `writing` changes anything.
pub(crate) struct Registry {
    table: AtomicPtr<Table>,
    /// Bit `k` is set while ranges of class `k` are registered.
    classes: AtomicU64,
    readers: [AtomicUsize; 2],
    generation: AtomicUsize,
    writing: SpinLock,
}

const REMOVED: *mut Registered = ptr::without_provenance_mut(1);

/// Readers and the writer share it, so there is never a `&mut` to it: fields are atomics, or cells that only the
/// holder of `writing` uses.
struct Table {
    /// Never empty; the number is a power of two.
    slots: Box<[AtomicPtr<Registered>]>,
    /// Slots that are not null: those of ranges, and removed ones.
    used: Cell<usize>,
    /// Ranges, each of which has one slot or two.
    live: Cell<usize>,
    per_class: [Cell<usize>; usize::BITS as usize],
    /// Stands for all of the table in loom's models: readers read it, and making or freeing a table writes it.
    #[cfg(loom)]
    watched: loom::cell::UnsafeCell<()>,
}

#[cfg(loom)]
impl Drop for Table {
    fn drop(&mut self) {
        self.watched.with_mut(|_| ());
    }
}

fn change(number: &Cell<usize>, by: isize) {
    number.set(number.get().wrapping_add_signed(by));
}

impl Table {
    fn with_slots(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            used: Cell::new(0),
            live: Cell::new(0),
            per_class: [const { Cell::new(0) }; usize::BITS as usize],
            #[cfg(loom)]
            watched: loom::cell::UnsafeCell::new(()),
        }
    }

    /// The slots where an entry of this class and block may be, in the order of probing.
    fn probe(&self, class: u32, block: usize) -> impl Iterator<Item = &AtomicPtr<Registered>> {
        let mask = self.slots.len().wrapping_sub(1);
        // The class is in the lowest bits, which change every bit of the product. The factor is 2^64 divided by the
        // golden ratio: it spreads neighbouring keys evenly.
        let key = (block as u64).rotate_left(6).wrapping_add(u64::from(class));
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (mixed >> 32) as usize;
        // The mask keeps the index in bounds. `get` leaves out the panic, which the handler must not contain.
        (0..self.slots.len()).filter_map(move |step| self.slots.get((first + step) & mask))
    }

    fn add(&self, entry: &Registered) {
        for block in entry.blocks() {
            let slot = self
                .probe(entry.class(), block)
                .find(|slot| is_vacant(slot.load(Ordering::Relaxed)))
                .expect("at least half of the table is free");
            let was_null = slot.load(Ordering::Relaxed).is_null();
            slot.store(ptr::from_ref(entry).cast_mut(), Ordering::Release);
            change(&self.used, was_null.into());
        }
        change(&self.live, 1);
        change(&self.per_class[entry.class() as usize], 1);
    }

    fn remove(&self, entry: &Registered) {
        for block in entry.blocks() {
            let slot = self
                .probe(entry.class(), block)
                .find(|slot| ptr::eq(slot.load(Ordering::Relaxed), entry))
                .expect("only what is registered is removed");
            slot.store(REMOVED, Ordering::Release);
            let index = (ptr::from_ref(slot).addr() - self.slots.as_ptr().addr())
                / size_of::<AtomicPtr<Registered>>();
            self.clear_chain_end(index);
        }
        change(&self.live, -1);
        change(&self.per_class[entry.class() as usize], -1);
    }

    /// Every slot that holds a range, with it.
    fn entries(&self) -> impl Iterator<Item = (&AtomicPtr<Registered>, &Registered)> {
        self.slots.iter().filter_map(|slot| {
            let entry = slot.load(Ordering::Relaxed);
            // SAFETY: by the registry's invariant, what is in the table is alive.
            (!is_vacant(entry)).then(|| (slot, unsafe { &*entry }))
        })
    }

    /// Whether a slot is the one under the first block of its range: true for one slot of each range.
    fn is_first(&self, slot: &AtomicPtr<Registered>, entry: &Registered) -> bool {
        let mut first = entry.blocks().take(1).flat_map(|block| self.probe(entry.class(), block));
        first
            .find(|slot| ptr::eq(slot.load(Ordering::Relaxed), entry))
            .is_some_and(|found| ptr::eq(found, slot))
    }

    /// In the child of a fork: counts the slots anew, and returns the classes in use. A range that stands
    /// under only one of its two blocks may count or not: a thread of the parent was adding or removing it.
    #[cfg(unix)]
    fn recount(&self) -> u64 {
        let is_null = |slot: &&AtomicPtr<Registered>| slot.load(Ordering::Relaxed).is_null();
        self.used.set(self.slots.len() - self.slots.iter().filter(is_null).count());
        self.live.set(0);
        self.per_class.iter().for_each(|count| count.set(0));
        let mut classes = 0;
        for (_, entry) in self.entries().filter(|(slot, entry)| self.is_first(slot, entry)) {
            change(&self.live, 1);
            change(&self.per_class[entry.class() as usize], 1);
            classes |= 1 << entry.class();
        }
        classes
    }

    /// Empties a removed slot that is followed by an empty one, and the removed slots before it: no probe
    /// needs to pass them.
    fn clear_chain_end(&self, mut index: usize) {
        let mask = self.slots.len() - 1;
        if !self.slots[(index + 1) & mask].load(Ordering::Relaxed).is_null() {
            return;
        }
        while ptr::eq(self.slots[index].load(Ordering::Relaxed), REMOVED) {
            self.slots[index].store(ptr::null_mut(), Ordering::Release);
            change(&self.used, -1);
            index = index.wrapping_sub(1) & mask;
        }
    }
}

fn is_vacant(entry: *mut Registered) -> bool {
    entry.is_null() || ptr::eq(entry, REMOVED)
}

impl Registry {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self {
            table: AtomicPtr::new(ptr::null_mut()),
            classes: AtomicU64::new(0),
            readers: [AtomicUsize::new(0), AtomicUsize::new(0)],
            generation: AtomicUsize::new(0),
            writing: SpinLock::new(),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            table: AtomicPtr::new(ptr::null_mut()),
            classes: AtomicU64::new(0),
            readers: [AtomicUsize::new(0), AtomicUsize::new(0)],
            generation: AtomicUsize::new(0),
            writing: SpinLock::new(),
        }
    }

    /// Calls `found` with the range that holds an address, if one does. Wait-free and
    /// async-signal-safe as far as `found` is.
    pub(crate) fn with<R>(
        &self,
        address: usize,
        found: impl FnOnce(&Registered) -> R,
    ) -> Option<R> {
        // Without ranges there is nothing to look up, and no counter to write.
        let classes = self.classes.load(Ordering::Acquire);
        if classes == 0 {
            return None;
        }
        let counter = &self.readers[self.generation.load(Ordering::Relaxed) & 1];
        counter.fetch_add(1, Ordering::Acquire);
        // Pairs with the fence in `drain`: either `drain` sees this reader's count, or this reader sees what
        // the writer changed before `drain`.
        fence(Ordering::SeqCst);
        let found_entry = self.find(address, classes);
        // SAFETY: the entry outlives this reader, and its owner the entry.
        let guests = found_entry.and_then(|entry| unsafe { entry.guests.as_ref() });
        if let Some(guests) = guests {
            guests.fetch_add(1, Ordering::Acquire);
            counter.fetch_sub(1, Ordering::Release);
        }
        let result = found_entry.map(found);
        guests.unwrap_or(counter).fetch_sub(1, Ordering::Release);
        result
    }

    /// The range that holds an address. The caller has incremented a counter of readers.
    fn find(&self, address: usize, mut classes: u64) -> Option<&Registered> {
        // SAFETY: by the invariant, the table outlives this reader.
        let table = unsafe { self.table.load(Ordering::Acquire).as_ref() }?;
        #[cfg(loom)]
        table.watched.with(|_| ());
        while classes != 0 {
            let class = classes.trailing_zeros();
            for slot in table.probe(class, address >> class) {
                let entry = slot.load(Ordering::Acquire);
                if entry.is_null() {
                    break;
                }
                if ptr::eq(entry, REMOVED) {
                    continue;
                }
                // SAFETY: by the invariant, the entry outlives this reader.
                let entry = unsafe { &*entry };
                if entry.contains(address) {
                    return Some(entry);
                }
            }
            classes &= classes - 1;
        }
        None
    }

    /// Enters a range.
    ///
    /// # Safety
    /// The entry stays where it is until it was [removed](Self::remove), and ranges do not overlap.
    pub(crate) unsafe fn add(&self, entry: &Registered) {
        let _writing = self.write();
        self.make_room();
        // SAFETY: the table was made by `make_room` at the latest, and only the writer, which this
        // is, frees it.
        let table = unsafe { &*self.table.load(Ordering::Relaxed) };
        table.add(entry);
        self.classes.fetch_or(1 << entry.class(), Ordering::Release);
    }

    /// Takes a range out, and returns when no reader can be using it any more.
    pub(crate) fn remove(&self, entry: &Registered) {
        let _writing = self.write();
        // SAFETY: as in `add`; the entry is in the table, so there is one.
        let table = unsafe { &*self.table.load(Ordering::Relaxed) };
        table.remove(entry);
        if table.per_class[entry.class() as usize].get() == 0 {
            self.classes.fetch_and(!(1 << entry.class()), Ordering::Release);
        }
        self.drain();
    }

    /// Makes room for one more range: where it could fill more than half of the slots, replaces the table. A new
    /// table has eight slots for each range, of which one or two are used, so that probes are short and the next
    /// replacement is far away.
    fn make_room(&self) {
        let old = self.table.load(Ordering::Relaxed);
        // SAFETY: only the writer, which the caller is, frees tables.
        let (used, slots, live) = match unsafe { old.as_ref() } {
            Some(table) => (table.used.get(), table.slots.len(), table.live.get()),
            None => (0, 0, 0),
        };
        if (used + 2) * 2 <= slots {
            return;
        }
        let table = Box::new(Table::with_slots(((live + 1) * 8).next_power_of_two().max(16)));
        // SAFETY: as above.
        if let Some(old) = unsafe { old.as_ref() } {
            // A range under two blocks has two slots, but is added once.
            for (_, entry) in old.entries().filter(|(slot, entry)| old.is_first(slot, entry)) {
                table.add(entry);
            }
        }
        self.table.store(Box::into_raw(table), Ordering::Release);
        if !old.is_null() {
            self.drain();
            // SAFETY: made by `Box::into_raw` above, replaced, and no reader is left.
            drop(unsafe { Box::from_raw(old) });
        }
    }

    /// Waits until every reader that may have seen the state before this call is done.
    fn drain(&self) {
        fence(Ordering::SeqCst);
        for _ in 0..2 {
            // New readers use the other counter, so that this one falls to zero.
            let resting = self.generation.fetch_add(1, Ordering::Relaxed) & 1;
            let mut round = 0;
            while self.readers[resting].load(Ordering::Acquire) != 0 {
                relax(&mut round);
            }
        }
    }

    fn write(&self) -> Writing<'_> {
        self.writing.lock();
        Writing(self)
    }

    /// In the child of a fork, on its only thread: repairs the owners, and completes or drops what other
    /// threads of the parent were changing. (The registry is not locked before a fork: a thread could wait
    /// for that lock while it holds a lock of the program which another handler of `pthread_atfork` takes.)
    #[cfg(unix)]
    pub(super) fn after_fork_in_child(&self) {
        for counter in &self.readers {
            counter.store(0, Ordering::Relaxed);
        }
        // SAFETY: a table that is replaced is freed only after that, and never by another thread of
        // this process.
        if let Some(table) = unsafe { self.table.load(Ordering::Relaxed).as_ref() } {
            for (_, entry) in table.entries() {
                // A range under two blocks is repaired twice, the second time without effect.
                // SAFETY: entries of the table are alive.
                unsafe { (entry.forked)(entry.owner) };
            }
            self.classes.store(table.recount(), Ordering::Relaxed);
        }
        self.writing.unlock();
    }
}

/// Only for tests: the registry of a process lives as long as the process.
#[cfg(test)]
impl Drop for Registry {
    fn drop(&mut self) {
        let table = self.table.load(Ordering::Relaxed);
        if !table.is_null() {
            // SAFETY: made by `Box::into_raw`; `&mut self` says that no reader is left.
            drop(unsafe { Box::from_raw(table) });
        }
    }
}

struct Writing<'a>(&'a Registry);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.unlock();
    }
}

#[cfg(test)]
fn test_entry(start: usize, end: usize) -> Registered {
    Registered {
        file: &[],
        guests: ptr::null(),
        start,
        end,
        owner: ptr::null(),
        serve: |_, _| super::Outcome::Resolved,
        forked: |_| {},
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod models;
