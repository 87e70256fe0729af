//! Pointers to elements stay good while an array grows.

use pagewise::PageVec;

#[test]
fn pointers_to_a_million_elements_stay_good() {
    const COUNT: usize = if cfg!(miri) { 1000 } else { 1_000_000 };
    let mut numbers = PageVec::new(COUNT).unwrap();
    let mut pointers = Vec::with_capacity(COUNT);
    for number in 0..COUNT as u64 {
        numbers.push(number);
        pointers.push(&raw const numbers[numbers.len() - 1]);
    }
    for (number, pointer) in pointers.into_iter().enumerate() {
        // SAFETY: the element was not removed, so it is still at its address, as `PageVec` promises.
        assert_eq!(unsafe { pointer.read() }, number as u64);
    }
}

#[test]
fn removing_behind_an_element_does_not_move_it() {
    let count = if cfg!(miri) { 1000 } else { 50_000 };
    let mut names = PageVec::new(1 << 17).unwrap();
    names.extend((0..count).map(|n| n.to_string()));
    let tenth = &raw const names[10];
    names.truncate(11);
    names.shrink_to_fit();
    names.extend((0..count).map(|n| n.to_string()));
    // SAFETY: as above.
    assert_eq!(unsafe { &*tenth }, "10");
    assert!(std::ptr::eq(tenth, &names[10]));
}

#[test]
fn a_concurrent_slice_stays_good_while_others_push() {
    let vec = pagewise::ConcurrentVec::new(1 << 20).unwrap();
    for n in 0..100u64 {
        vec.push(n);
    }
    let before = vec.as_slice();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..if cfg!(miri) { 100 } else { 10_000 } {
                    vec.push(7);
                }
            });
        }
        assert!(before.iter().copied().eq(0..100));
    });
    assert!(std::ptr::eq(before, &vec.as_slice()[..100]));
}
