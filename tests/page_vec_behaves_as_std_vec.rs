//! The same operations, in random order, on a `Vec` and on a `PageVec`: contents, returned values,
//! panics, the order of clones and drops, and what is leaked must be the same.
//!
//! A program of its own, since it replaces the panic hook, and since Miri must not look for leaks in it.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::hash::Hash;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Once};

use pagewise::PageVec;
use proptest::prelude::*;

const MAX_LEN: usize = 1 << 16;

trait Element: Clone + Ord + Hash + Debug {
    fn make(seed: u8) -> Self;
}

impl Element for u8 {
    fn make(seed: u8) -> Self {
        seed
    }
}

impl Element for u64 {
    fn make(seed: u8) -> Self {
        u64::from(seed) * 0x0101_0101_0101
    }
}

impl Element for String {
    fn make(seed: u8) -> Self {
        "x".repeat(usize::from(seed % 40))
    }
}

impl Element for () {
    fn make(_: u8) -> Self {}
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(align(64))]
struct Aligned(u8);

impl Element for Aligned {
    fn make(seed: u8) -> Self {
        Self(seed)
    }
}

/// What happened to [`Witness`]es in this thread, and when the next one is to panic.
#[derive(Default, Debug)]
struct Record {
    events: Vec<(char, u8)>,
    alive: isize,
    until_panic: Option<usize>,
}

thread_local! {
    static RECORD: RefCell<Record> = RefCell::default();
}

fn event(what: char, seed: u8, alive: isize) {
    let panics = RECORD.with_borrow_mut(|record| {
        record.events.push((what, seed));
        record.alive += alive;
        if std::thread::panicking() {
            return false; // a panic in a panic ends the process, for `Vec` as well
        }
        let panics = record.until_panic == Some(0);
        record.until_panic = record.until_panic.and_then(|left| left.checked_sub(1));
        panics
    });
    assert!(!panics, "the bomb goes off");
}

/// Elements that record their clones and drops, and panic in one of them.
macro_rules! witness {
    ($name:ident $payload:ty, $make:expr, $seed:expr) => {
        #[derive(PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        struct $name($payload);

        impl Element for $name {
            fn make(seed: u8) -> Self {
                RECORD.with_borrow_mut(|record| record.alive += 1);
                Self($make(seed % 8))
            }
        }

        impl Clone for $name {
            fn clone(&self) -> Self {
                // A clone that panics makes nothing.
                event('c', $seed(self.0), 0);
                RECORD.with_borrow_mut(|record| record.alive += 1);
                Self(self.0)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                event('d', $seed(self.0), -1);
            }
        }
    };
}

witness!(Witness u8, |seed| seed, |seed| seed);
witness!(ZeroSizedWitness(), |_| (), |_| 0);

#[derive(Clone, Debug)]
struct Operation {
    kind: u8,
    a: u8,
    b: u8,
    seeds: Vec<u8>,
}

const KINDS: u8 = 64;

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = (0..KINDS, any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..24))
        .prop_map(|(kind, a, b, seeds)| Operation { kind, a, b, seeds });
    prop::collection::vec(operation, 1..if cfg!(miri) { 16 } else { 60 })
}

/// The body of both runs: `$new` makes an empty array.
macro_rules! run {
    ($element:ty, $vec:ty, $new:expr, $operations:expr, $until_panic:expr) => {{
        RECORD.with_borrow_mut(|record| {
            *record = Record { until_panic: $until_panic, ..Record::default() };
        });
        let mut trace = Vec::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut v: $vec = $new;
            for operation in $operations {
                let result =
                    catch_unwind(AssertUnwindSafe(|| step!($element, $vec, $new, v, operation)));
                trace.push(match result {
                    Ok(returned) => format!("{}: {returned} -> {v:?}", operation.kind),
                    Err(_) => format!("{}: panic -> {v:?}", operation.kind),
                });
            }
        }));
        let record = RECORD.with_borrow_mut(std::mem::take);
        (trace, outcome.is_err(), record.events, record.alive)
    }};
}

macro_rules! step {
    ($element:ty, $vec:ty, $new:expr, $v:ident, $operation:ident) => {{
        let Operation { kind, a, b, seeds } = $operation;
        let (len, kind) = ($v.len(), *kind);
        let (a, b) = (usize::from(*a), usize::from(*b));
        let seed = seeds.first().copied().unwrap_or(7);
        let make = || <$element as Element>::make(seed);
        let many = || seeds.iter().map(|&seed| <$element as Element>::make(seed));
        let many_of = || many().collect::<Vec<_>>();
        // Mostly inside of the array, sometimes just outside.
        let index = a % (len + 2);
        let (low, high) = (a % (len + 1), b % (len + 2));
        match kind {
            0..4 => format!("{:?}", $v.push(make())),
            4..6 => format!("{:?}", $v.pop()),
            6..8 => format!("{:?}", $v.insert(index, make())),
            8 => format!("{:?}", $v.remove(index)),
            9 => format!("{:?}", $v.swap_remove(index)),
            10 => format!("{:?}", $v.truncate(index)),
            11 => format!("{:?}", $v.clear()),
            12 => format!("{:?}", $v.retain(|element| *element != make())),
            13 => {
                let mut count = 0;
                format!(
                    "{:?}",
                    $v.retain_mut(|element| {
                        count += 1;
                        if count % 5 == 0 {
                            *element = make();
                        }
                        count % 3 != b % 3
                    })
                )
            }
            14 => format!("{:?}", $v.dedup()),
            15 => format!("{:?}", $v.dedup_by_key(|element| element.clone())),
            16 => {
                let mut count = 0;
                format!(
                    "{:?}",
                    $v.dedup_by(|x, y| {
                        count += 1;
                        (count + a) % 3 == 0 || x == y
                    })
                )
            }
            17 => format!("{:?}", $v.drain(low..high).collect::<Vec<_>>()),
            18 => format!("{:?}", $v.drain(..high).rev().take(b % 5).collect::<Vec<_>>()),
            19 => {
                let mut drain = $v.drain(low..);
                let taken = (drain.next(), drain.next_back(), drain.len());
                let rest = format!("{:?} {:?}", drain, drain.as_slice());
                drop(drain);
                format!("{taken:?} {rest}")
            }
            20 => {
                let drain = $v.drain(low..high);
                // Miri reports forgotten values as leaks.
                if cfg!(miri) {
                    drop(drain)
                } else {
                    std::mem::forget(drain)
                }
                String::new()
            }
            21 => format!("{:?}", $v.splice(low..high, many()).collect::<Vec<_>>()),
            22 => {
                drop($v.splice(low..=low, many().filter(|_| true)));
                String::new()
            }
            23 => format!("{:?}", $v.splice(len.., many()).next_back()),
            24 => format!("{:?}", $v.splice(.., many().take(b % 3)).size_hint()),
            25 => format!("{:?}", $v.extend(many())),
            26 => format!("{:?}", $v.extend(many().filter(|_| true))),
            27 => {
                let mut count = 0;
                $v.extend(many().inspect(|_| {
                    count += 1;
                    assert!(count < 5 + a % 16);
                }));
                String::new()
            }
            28 => format!("{:?}", $v.extend_from_slice(&many_of())),
            29 => format!("{:?}", $v.extend_from_within(low..high)),
            30 => {
                let mut other: $vec = $new;
                other.extend(many());
                $v.append(&mut other);
                format!("{other:?}")
            }
            31 | 32 => format!("{:?}", $v.split_off(index)),
            33 => {
                let rest = $v.split_off(low);
                $v = rest;
                String::new()
            }
            34 => format!("{:?}", $v.resize(a % 40, make())),
            35 => format!("{:?}", $v.resize_with(b % 40, make)),
            // Large enough to pass several steps of growth, and to give memory back later.
            36 => format!("{:?}", $v.resize(len % 64 + a * LARGE, make())),
            37 => {
                $v.reserve(a * 50);
                format!("{}", $v.capacity() >= len + a * 50)
            }
            38 => {
                $v.reserve_exact(a);
                format!("{}", $v.capacity() >= len + a)
            }
            39 => format!("{:?}", $v.try_reserve(b).is_ok()),
            40 => format!("{:?}", $v.try_reserve_exact(b).is_ok()),
            41 => format!("{:?}", $v.shrink_to_fit()),
            42 => {
                $v.shrink_to(a);
                format!("{}", $v.capacity() >= len)
            }
            43 => {
                let clone = $v.clone();
                format!("{clone:?} {} {:?}", clone == $v, clone.partial_cmp(&$v))
            }
            44 => {
                let mut other: $vec = $new;
                other.extend(many());
                if a % 2 == 0 {
                    other.clone_from(&$v)
                } else {
                    $v.clone_from(&other)
                }
                format!("{other:?}")
            }
            45 => {
                let mut elements = std::mem::replace(&mut $v, $new).into_iter();
                let taken = (elements.nth(a % 3), elements.next_back(), elements.len());
                let rest = format!("{taken:?} {:?} {elements:?}", elements.as_slice());
                $v.extend(elements.clone());
                rest
            }
            46 => format!("{:?}", Vec::from(std::mem::replace(&mut $v, $new))),
            47 => format!("{:?}", $v.pop_if(|last| *last < make())),
            48 => {
                $v.sort();
                $v.reverse();
                format!("{:?} {:?}", $v.first(), $v.iter().max())
            }
            49 => {
                let mut other: $vec = $new;
                other.extend(many());
                format!("{:?} {:?} {}", $v.cmp(&other), $v.partial_cmp(&other), hash(&$v))
            }
            50 => {
                $v.reserve(seeds.len());
                let count = $v
                    .spare_capacity_mut()
                    .iter_mut()
                    .zip(many())
                    .map(|(slot, element)| {
                        slot.write(element);
                    })
                    .count();
                // SAFETY: so many slots were written just now.
                unsafe { $v.set_len(len + count) };
                format!("{count}")
            }
            51 => {
                $v.iter_mut().for_each(|element| *element = make());
                format!("{:?} {}", $v.get(index), $v[low.min(len)..] == many_of()[..])
            }
            // An iterator that returns further elements after a `None`.
            52 | 53 => {
                let mut count = 0;
                let resumes = many().map_while(|element| {
                    count += 1;
                    (count % 3 != 0).then_some(element)
                });
                if kind == 52 {
                    $v.extend(resumes);
                } else {
                    drop($v.splice(low..high, resumes));
                }
                String::new()
            }
            54 => {
                let mut count = 0;
                let mut extracted = $v.extract_if(low..high, |element| {
                    count += 1;
                    if count % 4 == 0 {
                        *element = make();
                    }
                    count % 3 == b % 3
                });
                let some = (extracted.next(), extracted.size_hint(), extracted.next());
                let rest: Vec<_> = if a % 2 == 0 { extracted.collect() } else { Vec::new() };
                format!("{some:?} {rest:?}")
            }
            55 => format!("{:?}", $v.try_resize(b % 40, make()).is_ok()),
            56 => format!("{:?}", $v.try_resize_with(a % 40, make).is_ok()),
            57 => {
                let mut other: $vec = $new;
                other.extend(many());
                format!("{:?} {other:?}", $v.try_append(&mut other).is_ok())
            }
            58 => format!("{:?}", $v.try_extend_from_within(low..high).is_ok()),
            59 => {
                let clone = $v.try_clone().unwrap();
                format!("{:?}", std::mem::replace(&mut $v, clone))
            }
            60 => {
                let elements = std::mem::replace(&mut $v, $new);
                match a % 4 {
                    0 => format!("{:?}", elements.into_boxed_slice()),
                    1 => format!("{:?}", Box::<[$element]>::from(elements)),
                    2 => format!("{:?}", Arc::<[$element]>::from(elements)),
                    _ => format!("{:?}", Rc::<[$element]>::from(elements)),
                }
            }
            61 => match <[$element; 3]>::try_from(std::mem::replace(&mut $v, $new)) {
                Ok(three) => format!("{three:?}"),
                Err(other) => {
                    $v = other;
                    String::new()
                }
            },
            62 => {
                $v = match b % 4 {
                    0 => <$vec>::try_from(many_of()).unwrap(),
                    1 => <$vec>::try_from(many_of().into_boxed_slice()).unwrap(),
                    2 => <$vec>::try_from([make(), make()]).unwrap(),
                    _ => <$vec>::try_from(&many_of()[..]).unwrap(),
                };
                String::new()
            }
            63 => {
                let taken = std::mem::take(&mut $v);
                $v.extend(many());
                format!("{taken:?}")
            }
            _ => unreachable!("{KINDS} kinds"),
        }
    }};
}

/// What a `PageVec` does and returns: a `Vec` does it, or ends the process.
trait Fallible<T>: Sized {
    fn try_resize(&mut self, len: usize, value: T) -> Result<(), ()>;
    fn try_resize_with(&mut self, len: usize, make: impl FnMut() -> T) -> Result<(), ()>;
    fn try_append(&mut self, other: &mut Self) -> Result<(), ()>;
    fn try_extend_from_within(&mut self, range: Range<usize>) -> Result<(), ()>;
    fn try_clone(&self) -> Result<Self, ()>;
}

impl<T: Clone> Fallible<T> for Vec<T> {
    fn try_resize(&mut self, len: usize, value: T) -> Result<(), ()> {
        self.resize(len, value);
        Ok(())
    }

    fn try_resize_with(&mut self, len: usize, make: impl FnMut() -> T) -> Result<(), ()> {
        self.resize_with(len, make);
        Ok(())
    }

    fn try_append(&mut self, other: &mut Self) -> Result<(), ()> {
        self.append(other);
        Ok(())
    }

    fn try_extend_from_within(&mut self, range: Range<usize>) -> Result<(), ()> {
        self.extend_from_within(range);
        Ok(())
    }

    fn try_clone(&self) -> Result<Self, ()> {
        Ok(self.clone())
    }
}

fn hash(value: &impl Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn compare<T: Element>(operations: &[Operation], until_panic: Option<usize>) {
    let expected = run!(T, Vec<T>, Vec::with_capacity(64), operations, until_panic);
    let found = run!(T, PageVec<T>, PageVec::new(MAX_LEN).unwrap(), operations, until_panic);
    for (index, (expected, found)) in expected.0.iter().zip(&found.0).enumerate() {
        assert_eq!(found, expected, "operation {index} of {operations:?}");
    }
    assert_eq!(found, expected);
}

macro_rules! differential {
    ($($name:ident: $element:ty;)*) => {$(
        proptest! {
            #![proptest_config(config(CASES))]
            #[test]
            fn $name(operations in operations()) {
                quietly(|| compare::<$element>(&operations, None));
            }
        }
    )*};
}

fn config(cases: u32) -> ProptestConfig {
    // An emulator takes a hundred times as long.
    let emulated = std::env::var_os("PAGEWISE_TEST_RUNNER").is_some();
    let cases = if emulated { cases.div_ceil(16) } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

const CASES: u32 = if cfg!(miri) { 1 } else { 96 };

const LARGE: usize = if cfg!(miri) { 1 } else { 40 };

differential! {
    bytes: u8;
    words: u64;
    strings: String;
    zero_sized: ();
    over_aligned: Aligned;
}

proptest! {
    #![proptest_config(config(4 * CASES))]
    #[test]
    fn elements_that_panic(operations in operations(), until_panic in 0usize..600) {
        quietly(|| compare::<Witness>(&operations, Some(until_panic)));
    }

    #[test]
    fn zero_sized_elements_that_panic(operations in operations(), until_panic in 0usize..600) {
        quietly(|| compare::<ZeroSizedWitness>(&operations, Some(until_panic)));
    }
}

/// Hides the messages of panics, which the two runs compare.
fn quietly(run: impl FnOnce()) {
    thread_local! { static QUIET: Cell<bool> = const { Cell::new(false) }; }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    if let Err(failure) = result {
        std::panic::resume_unwind(failure);
    }
}
