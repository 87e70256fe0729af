//! Loom: readers, and one thread that changes the registry.

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

/// Whether a range is alive: loom fails the model where a reader looks at it without seeing how it was
/// made, or while it is freed.
type Alive = Arc<UnsafeCell<bool>>;

fn watched(start: usize, end: usize) -> (Box<Registered>, Alive) {
    let alive = Arc::new(UnsafeCell::new(false));
    // SAFETY: only this thread uses it yet.
    alive.with_mut(|alive| unsafe { *alive = true });
    let owner = Arc::as_ptr(&alive).cast();
    (Box::new(Registered { owner, ..test_entry(start, end) }), alive)
}

/// What a reader does with a range that it found.
fn look_at(entry: &Registered) -> usize {
    // SAFETY: loom makes sure that the owner is alive.
    unsafe { &*entry.owner.cast::<UnsafeCell<bool>>() }
        // SAFETY: loom fails the model if another thread writes to it.
        .with(|alive| assert!(unsafe { *alive }, "a range that was freed"));
    entry.start
}

/// A reader that begins before the first range is added sees all of the range and the table, or neither. What it
/// looks at is not freed meanwhile.
#[test]
fn loom_a_reader_sees_how_a_range_was_made_and_not_how_it_goes() {
    let found = std::sync::Arc::new(std::sync::Mutex::new([false; 2]));
    let seen = found.clone();
    loom::model(move || {
        let registry = Arc::new(Registry::new());
        let reader = loom::thread::spawn({
            let (registry, seen) = (registry.clone(), seen.clone());
            move || {
                let found = registry.with(0x1800, look_at);
                assert!(found.is_none_or(|start| start == 0x1000));
                seen.lock().unwrap()[usize::from(found.is_some())] = true;
            }
        });
        let (entry, alive) = watched(0x1000, 0x2000);
        // SAFETY: removed in the next line.
        unsafe { registry.add(&entry) };
        registry.remove(&entry);
        // SAFETY: loom makes sure that no reader is left.
        alive.with_mut(|alive| unsafe { *alive = false });
        drop(entry);
        reader.join().unwrap();
    });
    assert_eq!(*found.lock().unwrap(), [true, true], "the model is vacuous");
}

/// The same for a second range, when neither the table nor the classes in use change.
#[test]
fn loom_a_reader_sees_how_another_range_was_made() {
    let found = std::sync::Arc::new(std::sync::Mutex::new([false; 2]));
    let seen = found.clone();
    loom::model(move || {
        let registry = Arc::new(Registry::new());
        let first = Box::new(test_entry(0x1000, 0x2000));
        // SAFETY: it outlives the reader, and the registry is not used after that.
        unsafe { registry.add(&first) };
        let reader = loom::thread::spawn({
            let (registry, seen) = (registry.clone(), seen.clone());
            move || {
                let found = registry.with(0x4800, look_at);
                seen.lock().unwrap()[usize::from(found.is_some())] = true;
            }
        });
        let (second, _alive) = watched(0x4000, 0x5000);
        // SAFETY: as above.
        unsafe { registry.add(&second) };
        reader.join().unwrap();
    });
    assert_eq!(*found.lock().unwrap(), [true, true], "the model is vacuous");
}

/// The same for the range that makes the table grow.
#[test]
fn loom_a_reader_sees_how_a_larger_table_was_made() {
    let found = std::sync::Arc::new(std::sync::Mutex::new([false; 2]));
    let seen = found.clone();
    loom::model(move || {
        let registry = Arc::new(Registry::new());
        // As many as fit into the smallest table.
        let entries: Vec<_> =
            (1..=7).map(|block| Box::new(test_entry(block << 12, (block + 1) << 12))).collect();
        // SAFETY: they outlive the reader, and the registry is not used after that.
        entries.iter().for_each(|entry| unsafe { registry.add(entry) });
        let reader = loom::thread::spawn({
            let (registry, seen) = (registry.clone(), seen.clone());
            move || {
                let found = registry.with(0x8800, look_at);
                seen.lock().unwrap()[usize::from(found.is_some())] = true;
            }
        });
        let (last, _alive) = watched(8 << 12, 9 << 12);
        // SAFETY: as above.
        unsafe { registry.add(&last) };
        reader.join().unwrap();
    });
    assert_eq!(*found.lock().unwrap(), [true, true], "the model is vacuous");
}

/// A reader that finds a range finds it alive, and not one that was removed.
#[test]
fn loom_a_reader_never_sees_a_removed_range() {
    loom::model(|| {
        let registry = Arc::new(Registry::new());
        let alive = Arc::new(AtomicUsize::new(1));
        let entry = Box::new(Registered {
            owner: Arc::as_ptr(&alive).cast(),
            ..test_entry(0x1000, 0x2000)
        });
        // SAFETY: removed below, before it is freed.
        unsafe { registry.add(&entry) };
        let reader = loom::thread::spawn({
            let (registry, alive) = (registry.clone(), alive.clone());
            move || registry.with(0x1800, |_| assert_eq!(alive.load(Ordering::Relaxed), 1))
        });
        registry.remove(&entry);
        alive.store(0, Ordering::Relaxed);
        drop(entry);
        reader.join().unwrap();
    });
}

/// A range is found while another one is added.
#[test]
fn loom_a_reader_finds_its_range_while_another_is_added() {
    loom::model(|| {
        let registry = Arc::new(Registry::new());
        let fixed = Box::new(test_entry(0x1000, 0x2000));
        // SAFETY: removed below.
        unsafe { registry.add(&fixed) };
        let reader = loom::thread::spawn({
            let registry = registry.clone();
            move || assert!(registry.with(0x1800, |_| ()).is_some())
        });
        let other = Box::new(test_entry(0x4000, 0x5000));
        // SAFETY: removed in the next line.
        unsafe { registry.add(&other) };
        registry.remove(&other);
        reader.join().unwrap();
        registry.remove(&fixed);
    });
}

/// A reader that is still in the first of two counters when one range goes must be waited for when the
/// next one goes, too.
#[test]
fn loom_a_reader_is_waited_for_however_many_ranges_go() {
    loom::model(|| {
        let registry = Arc::new(Registry::new());
        let alive = Arc::new(AtomicUsize::new(1));
        let first = Box::new(test_entry(0x1000, 0x2000));
        let second = Box::new(test_entry(0x4000, 0x5000));
        // SAFETY: both are removed below, before they are freed.
        unsafe {
            registry.add(&first);
            registry.add(&second);
        }
        let reader = loom::thread::spawn({
            let (registry, alive) = (registry.clone(), alive.clone());
            move || registry.with(0x4800, |_| assert_eq!(alive.load(Ordering::Relaxed), 1))
        });
        registry.remove(&first);
        registry.remove(&second);
        alive.store(0, Ordering::Relaxed);
        drop((first, second));
        reader.join().unwrap();
    });
}

/// The table that a reader looks into lives until the reader is gone, although a larger one took its
/// place.
#[test]
fn loom_a_reader_finds_its_range_while_the_table_grows() {
    loom::model(|| {
        let registry = Arc::new(Registry::new());
        // As many as fit into the smallest table.
        let entries: Vec<_> =
            (1..=7).map(|block| Box::new(test_entry(block << 12, (block + 1) << 12))).collect();
        // SAFETY: they outlive the reader, and the registry is not used after that.
        entries.iter().for_each(|entry| unsafe { registry.add(entry) });
        let slots = |registry: &Registry| {
            // SAFETY: only this thread replaces tables.
            unsafe { &*registry.table.load(Ordering::Relaxed) }.slots.len()
        };
        let before = slots(&registry);
        let reader = loom::thread::spawn({
            let registry = registry.clone();
            move || assert_eq!(registry.with(0x1800, |entry| entry.start), Some(0x1000))
        });
        let last = Box::new(test_entry(8 << 12, 9 << 12));
        // SAFETY: as above.
        unsafe { registry.add(&last) };
        assert!(slots(&registry) > before, "the table did not grow");
        reader.join().unwrap();
    });
}
