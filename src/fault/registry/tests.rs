//! The registry on one thread and on several: every address is found, and every counter is exact.

use super::*;

fn found(registry: &Registry, address: usize) -> Option<usize> {
    registry.with(address, |entry| entry.start)
}

#[test]
fn every_address_of_ten_thousand_ranges_is_found_and_no_other() {
    let registry = Registry::new();
    let ranges: Vec<_> = (1..=10_000usize)
        .map(|i| test_entry(i * 0x10_0000, i * 0x10_0000 + (i % 255 + 1) * 0x1000))
        .collect();
    for entry in &ranges {
        // SAFETY: the entries are removed before they go.
        unsafe { registry.add(entry) };
    }
    for entry in &ranges {
        assert_eq!(found(&registry, entry.start), Some(entry.start));
        assert_eq!(found(&registry, entry.end - 1), Some(entry.start));
        assert_eq!(found(&registry, entry.end), None);
        assert_eq!(found(&registry, entry.start - 1), None);
    }
    for entry in ranges.iter().step_by(2) {
        registry.remove(entry);
    }
    for (index, entry) in ranges.iter().enumerate() {
        let expected = (index % 2 == 1).then_some(entry.start);
        assert_eq!(found(&registry, entry.start), expected);
    }
    for entry in ranges.iter().skip(1).step_by(2) {
        registry.remove(entry);
    }
    assert_eq!(registry.classes.load(Ordering::Relaxed), 0);
}

/// A thread of the parent was in the middle of a change when the process forked: the child's registry works.
#[cfg(unix)]
#[test]
fn a_forked_child_ends_what_others_were_doing() {
    let registry = Registry::new();
    // Two blocks each: they lie across a multiple of their lengths.
    let ranges: Vec<_> =
        (1..=20usize).map(|i| test_entry((i << 20) - 0x800, (i << 20) + 0x800)).collect();
    for entry in &ranges {
        // SAFETY: the entries are removed before they go, or the registry is.
        unsafe { registry.add(entry) };
    }
    let (torn, whole) = ranges.split_first().unwrap();
    // SAFETY: nobody else uses the registry.
    let table = unsafe { &*registry.table.load(Ordering::Relaxed) };
    let (slot, _) =
        table.entries().find(|(slot, e)| table.is_first(slot, e) && ptr::eq(*e, torn)).unwrap();
    // Half-way through `remove`, with a reader under way.
    slot.store(REMOVED, Ordering::Relaxed);
    table.live.set(77);
    assert!(registry.writing.try_lock());
    registry.readers[1].store(3, Ordering::Relaxed);
    registry.after_fork_in_child();
    assert!((whole.len()..=ranges.len()).contains(&table.live.get()));
    for entry in whole {
        assert_eq!(found(&registry, entry.start), Some(entry.start));
        registry.remove(entry);
        assert_eq!(found(&registry, entry.start), None);
    }
}

#[test]
fn adding_and_removing_forever_does_not_fill_the_table() {
    let registry = Registry::new();
    for i in 1..100_000usize {
        let entry = test_entry(i << 16, (i << 16) + 0x1_0000);
        // SAFETY: removed in the next line.
        unsafe { registry.add(&entry) };
        registry.remove(&entry);
    }
    // SAFETY: nobody else uses the registry.
    let table = unsafe { &*registry.table.load(Ordering::Relaxed) };
    assert!(table.slots.len() <= 64 && table.live.get() == 0);
}

#[test]
fn readers_and_writers_do_not_disturb_each_other() {
    use std::sync::atomic::AtomicBool;
    let (registry, stop) = (Registry::new(), AtomicBool::new(false));
    let fixed = test_entry(0x7000_0000, 0x7001_0000);
    // SAFETY: removed at the end.
    unsafe { registry.add(&fixed) };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(found(&registry, 0x7000_8000), Some(0x7000_0000));
                }
            });
        }
        for i in 0..2_000usize {
            let moving: Vec<_> = (0..i % 40)
                .map(|j| Box::new(test_entry((j + 1) << 20, ((j + 1) << 20) + 0x1000)))
                .collect();
            // SAFETY: removed in the next line, and only then freed.
            moving.iter().for_each(|entry| unsafe { registry.add(entry) });
            moving.iter().for_each(|entry| registry.remove(entry));
        }
        stop.store(true, Ordering::Relaxed);
    });
    registry.remove(&fixed);
}

fn range_of(blocks: (usize, usize), class: u32) -> Registered {
    test_entry(blocks.0 << class, blocks.1 << class)
}

#[test]
fn a_range_stands_under_the_one_or_two_blocks_of_its_size() {
    let blocks = |start, end| {
        let entry = test_entry(start, end);
        (entry.class(), entry.blocks().collect::<Vec<_>>())
    };
    assert_eq!(blocks(0x4000, 0x5000), (12, vec![4]));
    assert_eq!(blocks(0x4000, 0x7000), (14, vec![1]));
    assert_eq!(blocks(0x3000, 0x6000), (14, vec![0, 1]));
    assert_eq!(blocks(0x3000, 0x4000), (12, vec![3]));
    assert_eq!(blocks(0x3fff, 0x4001), (1, vec![0x1fff, 0x2000]));
    assert_eq!(blocks(0x4000, 0x4001), (0, vec![0x4000]));
}

/// Checks everything that holds between two changes, for a registry that has exactly these ranges.
fn check(registry: &Registry, ranges: &[&Registered]) {
    // SAFETY: nobody else uses the registry.
    let table = unsafe { &*registry.table.load(Ordering::Relaxed) };
    let slots: Vec<_> = table.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).collect();
    assert!(slots.len().is_power_of_two() && slots.len() >= 16);
    let used = slots.iter().filter(|slot| !slot.is_null()).count();
    assert_eq!(table.used.get(), used);
    assert!(used * 2 <= slots.len(), "{used} of {}", slots.len());
    assert_eq!(table.live.get(), ranges.len());
    let entered: usize = ranges.iter().map(|entry| entry.blocks().count()).sum();
    assert_eq!(slots.iter().filter(|&&slot| !is_vacant(slot)).count(), entered);
    let mut classes = 0;
    for class in 0..usize::BITS {
        let count = ranges.iter().filter(|entry| entry.class() == class).count();
        assert_eq!(table.per_class[class as usize].get(), count, "class {class}");
        classes |= u64::from(count > 0) << class;
    }
    assert_eq!(registry.classes.load(Ordering::Relaxed), classes);
    for (index, &slot) in slots.iter().enumerate() {
        let next = slots[(index + 1) % slots.len()];
        assert!(!ptr::eq(slot, REMOVED) || !next.is_null(), "slot {index} could be empty");
    }
    for entry in ranges {
        for address in [entry.start, entry.end - 1] {
            let found = registry.with(address, |found| ptr::eq(found, *entry));
            assert_eq!(found, Some(true), "{address:#x}");
        }
    }
}

#[test]
fn every_counter_is_exact_after_every_change() {
    let mut random = fastrand::Rng::with_seed(7);
    let registry = Registry::new();
    // Ranges of many sizes that do not overlap, two in three of them across an edge of blocks.
    let all: Vec<_> = (1..=60usize)
        .map(|i| {
            let middle = i << 40;
            let half = 1 << random.u32(4..34);
            test_entry(middle - half * random.usize(0..3), middle + half)
        })
        .collect();
    let (mut inside, mut outside): (Vec<&Registered>, Vec<_>) = (Vec::new(), all.iter().collect());
    for step in 0..4_000 {
        // The number of ranges swings from none to all and back.
        let grow = random.u32(0..100) < if step / 500 % 2 == 0 { 70 } else { 30 };
        let (from, to) =
            if grow { (&mut outside, &mut inside) } else { (&mut inside, &mut outside) };
        if from.is_empty() {
            continue;
        }
        let entry = from.swap_remove(random.usize(0..from.len()));
        if grow {
            // SAFETY: `all` outlives the registry's last use.
            unsafe { registry.add(entry) };
        } else {
            registry.remove(entry);
        }
        to.push(entry);
        check(&registry, &inside);
        for entry in &outside {
            assert_eq!(registry.with(entry.start, |_| ()), None);
        }
    }
}

/// The numbers of ranges at which the table was made anew, and its slots from then on.
fn growth(ranges: &[Registered]) -> Vec<(usize, usize)> {
    let registry = Registry::new();
    let mut seen: Vec<(usize, usize)> = Vec::new();
    for (count, entry) in ranges.iter().enumerate() {
        // SAFETY: the ranges outlive the registry.
        unsafe { registry.add(entry) };
        // SAFETY: nobody else uses the registry.
        let slots = unsafe { &*registry.table.load(Ordering::Relaxed) }.slots.len();
        if seen.last().is_none_or(|&(_, last)| last != slots) {
            seen.push((count, slots));
        }
    }
    seen
}

#[test]
fn a_table_is_made_anew_when_the_next_range_could_take_more_than_half_of_it() {
    let single: Vec<_> = (1..=1_000).map(|block| range_of((block, block + 1), 16)).collect();
    assert_eq!(growth(&single), [(0, 16), (7, 64), (31, 256), (127, 1024), (511, 4096)]);
    // Ranges under two blocks each.
    let double: Vec<_> =
        (1..=300usize).map(|i| test_entry((i << 20) - 0x800, (i << 20) + 0x800)).collect();
    assert_eq!(growth(&double), [(0, 16), (4, 64), (16, 256), (64, 1024), (256, 4096)]);
}

/// How many slots are looked at to find ranges, on average.
fn mean_probes(ranges: &[Registered]) -> f64 {
    let registry = Registry::new();
    for entry in ranges {
        // SAFETY: the ranges outlive the registry.
        unsafe { registry.add(entry) };
    }
    // SAFETY: nobody else uses the registry.
    let table = unsafe { &*registry.table.load(Ordering::Relaxed) };
    let probes = |entry: &Registered| {
        let block = entry.blocks().next().unwrap();
        1 + table
            .probe(entry.class(), block)
            .position(|slot| ptr::eq(slot.load(Ordering::Relaxed), entry))
            .unwrap()
    };
    ranges.iter().map(probes).sum::<usize>() as f64 / ranges.len() as f64
}

#[test]
fn neighbours_and_equal_blocks_of_several_sizes_are_found_in_a_few_probes() {
    let neighbours: Vec<_> = (1..=4_000).map(|block| range_of((block, block + 1), 16)).collect();
    assert!(mean_probes(&neighbours) < 1.5, "{}", mean_probes(&neighbours));
    // Far apart, as large reservations are.
    let far: Vec<_> =
        (1..=4_000).map(|block| range_of((block << 12, (block << 12) + 1), 16)).collect();
    assert!(mean_probes(&far) < 1.5, "{}", mean_probes(&far));
    // The first block of each size: never twice the same number of a size, always the same number.
    let sizes: Vec<_> = (4..60).map(|class| range_of((1, 2), class)).collect();
    assert!(mean_probes(&sizes) < 2.0, "{}", mean_probes(&sizes));
}

#[test]
fn a_lookup_without_ranges_writes_nothing_and_one_with_ranges_leaves_no_reader() {
    let registry = Registry::new();
    assert_eq!(registry.with(0x1000, |_| ()), None);
    let entry = range_of((1, 2), 12);
    // SAFETY: removed below.
    unsafe { registry.add(&entry) };
    let during = registry.with(0x1000, |_| {
        registry.readers.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>()
    });
    assert_eq!(during, Some(1));
    registry.remove(&entry);
    assert!(registry.readers.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    assert_eq!(registry.with(0x1000, |_| ()), None);
}

#[cfg(unix)]
#[test]
fn a_forked_child_counts_what_is_whole_exactly() {
    use std::sync::atomic::AtomicUsize;
    static REPAIRED: AtomicUsize = AtomicUsize::new(0);
    let registry = Registry::new();
    let mut ranges: Vec<_> =
        (1..=9usize).map(|i| test_entry((i << 20) - 0x800, (i << 20) + 0x800)).collect();
    ranges.extend((1..=5usize).map(|i| range_of((i << 8, (i << 8) + 1), 24)));
    for entry in &mut ranges {
        entry.forked = |_| _ = REPAIRED.fetch_add(1, Ordering::Relaxed);
    }
    for entry in &ranges {
        // SAFETY: the ranges outlive the registry's last use.
        unsafe { registry.add(entry) };
    }
    registry.remove(&ranges[3]);
    // SAFETY: nobody else uses the registry.
    let table = unsafe { &*registry.table.load(Ordering::Relaxed) };
    table.used.set(1);
    table.live.set(1);
    table.per_class[3].set(1);
    registry.classes.store(1, Ordering::Relaxed);
    assert!(registry.writing.try_lock());
    registry.after_fork_in_child();
    let (first, last) = ranges.split_at(3);
    check(&registry, &first.iter().chain(&last[1..]).collect::<Vec<_>>());
    // Once under each of its blocks: 8 ranges have two, 5 one.
    assert_eq!(REPAIRED.load(Ordering::Relaxed), 21);
    assert!(registry.writing.try_lock(), "the lock is free in the child");
}
