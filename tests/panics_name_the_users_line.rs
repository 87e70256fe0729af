//! A container that panics names the line that called it, not a line of its own.
//! A program of its own, since it replaces the panic hook.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use pagewise::{Arena, ConcurrentVec, PageVec, page_size};

thread_local! {
    static FILE: Cell<Option<String>> = const { Cell::new(None) };
}

/// The file that the panic of `body` names; the message, too, where the panic has one.
fn panics_in(body: impl FnOnce()) -> (String, String) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let Some(location) = info.location() else { return before(info) };
            FILE.set(Some(location.file().to_owned()));
        }));
    });
    let payload = catch_unwind(AssertUnwindSafe(body)).expect_err("a panic");
    let message = payload.downcast_ref::<String>().cloned();
    let message = message.or(payload.downcast_ref::<&str>().map(|text| String::from(*text)));
    (FILE.take().expect("the hook saw the panic"), message.unwrap_or_default())
}

/// Drops what need not be dropped.
fn ignore<T>(_: T) {}

#[track_caller]
fn names_this_file(what: &str, body: impl FnOnce()) {
    let (file, message) = panics_in(body);
    assert_eq!(file, file!(), "{what}: {message}");
}

/// An array that is full.
fn full() -> PageVec<u64> {
    PageVec::try_from_iter(3, [1, 2, 3]).unwrap()
}

macro_rules! each_panic_names_this_file {
    ($container:ty: $make:expr; $($name:ident: $body:expr;)*) => {$(
        names_this_file(stringify!($name), || {
            let mut container = $make;
            let body: fn(&mut $container) = $body;
            body(&mut container);
        });
    )*};
}

#[test]
fn every_method_of_a_page_vec_that_panics() {
    each_panic_names_this_file! { PageVec<u64>: full();
        push: |v| v.push(4);
        push_mut: |v| ignore(*v.push_mut(4));
        insert_out_of_bounds: |v| v.insert(4, 4);
        insert_refused: |v| v.insert(1, 4);
        try_insert: |v| ignore(v.try_insert(4, 4));
        remove: |v| ignore(v.remove(3));
        swap_remove: |v| ignore(v.swap_remove(3));
        reserve: |v| v.reserve(1);
        reserve_exact: |v| v.reserve_exact(1);
        drain: |v| ignore(v.drain(2..5));
        drain_reversed: |v| ignore(v.drain((std::ops::Bound::Included(2), std::ops::Bound::Excluded(1))));
        drain_overflow: |v| ignore(v.drain(..=usize::MAX));
        splice: |v| ignore(v.splice(4.., []));
        extract_if: |v| ignore(v.extract_if(2..5, |_| true));
        append: |v| v.append(&mut full());
        split_off: |v| ignore(v.split_off(4));
        resize: |v| v.resize(4, 0);
        resize_with: |v| v.resize_with(4, || 0);
        extend_from_slice: |v| v.extend_from_slice(&[4]);
        extend_from_within: |v| v.extend_from_within(..1);
        extend_from_within_out_of_bounds: |v| v.extend_from_within(..4);
        try_extend_from_within: |v| ignore(v.try_extend_from_within(..4));
        extend_known: |v| v.extend([4]);
        extend_unknown: |v| v.extend([4].into_iter().filter(|_| true));
        extend_by_reference: |v| v.extend(&[4]);
        extend_by_unknown_references: |v| v.extend([4].iter().filter(|_| true));
        index: |v| ignore(v[3]);
        index_range: |v| ignore(v[2..5].len());
        index_mut: |v| v[3] = 1;
    }
}

#[test]
fn cloning_and_splitting_where_the_budget_is_used_up() {
    // The clone shares the budget, which has nothing left.
    fn used_up() -> PageVec<u64> {
        let budget = pagewise::Budget::new(page_size());
        let mut vec = PageVec::builder(10).budget(budget).build().unwrap();
        vec.extend([1, 2, 3]);
        vec
    }
    each_panic_names_this_file! { PageVec<u64>: used_up();
        clone: |v| ignore(v.clone());
        split_off: |v| ignore(v.split_off(1));
        split_off_all: |v| ignore(v.split_off(0));
    }
    names_this_file("clone_from", || {
        let mut short = PageVec::new(1).unwrap();
        short.clone_from(&full());
    });
    names_this_file("IntoIter::clone", || ignore(used_up().into_iter().clone()));
    names_this_file("into_flattened", || {
        let vec = PageVec::try_from_iter(usize::MAX, [[(); usize::MAX]; 2]).unwrap();
        ignore(vec.into_flattened());
    });
}

#[test]
fn a_splice_that_is_refused_when_it_is_dropped_names_the_line_of_the_splice() {
    // The panic comes from a destructor, which has no caller: the message names the line that made the value.
    let line = line!() + 1;
    let (_, message) = panics_in(|| ignore(full().splice(1..2, [7, 8, 9])));
    assert!(message.contains(&format!("{}:{line}:", file!())), "{message}");
    let line = line!() + 1;
    let (_, message) = panics_in(|| ignore(full().splice(3.., [7])));
    assert!(message.contains(&format!("{}:{line}:", file!())), "{message}");
}

#[test]
fn every_method_of_an_arena_that_panics() {
    // The arena is full.
    fn full() -> Arena {
        let arena = Arena::new(1).unwrap();
        arena.alloc_slice_uninit::<u8>(arena.max_bytes());
        arena
    }
    /// Elements without a size, so that they fit; one of two that it promises.
    fn too_few() -> impl ExactSizeIterator<Item = ()> {
        struct TooFew(std::ops::Range<u8>);
        impl Iterator for TooFew {
            type Item = ();
            fn next(&mut self) -> Option<()> {
                self.0.next().map(|_| ())
            }
            fn size_hint(&self) -> (usize, Option<usize>) {
                (2, Some(2))
            }
        }
        impl ExactSizeIterator for TooFew {}
        TooFew(0..1)
    }
    struct Failing;
    impl std::fmt::Display for Failing {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Err(std::fmt::Error)
        }
    }
    each_panic_names_this_file! { Arena: full();
        alloc: |a| ignore(*a.alloc(1u8));
        alloc_with: |a| ignore(*a.alloc_with(|| 1u8));
        alloc_uninit: |a| ignore(a.alloc_uninit::<u8>().write(1));
        alloc_slice_uninit: |a| ignore(a.alloc_slice_uninit::<u8>(1).len());
        alloc_slice_uninit_overflow: |a| ignore(a.alloc_slice_uninit::<u64>(usize::MAX).len());
        alloc_slice_copy: |a| ignore(a.alloc_slice_copy(&[1u8]).len());
        alloc_slice_clone: |a| ignore(a.alloc_slice_clone(&[1u8]).len());
        alloc_slice_fill_with: |a| ignore(a.alloc_slice_fill_with(1, |_| 1u8).len());
        alloc_try_with: |a| ignore(a.alloc_try_with(|| Ok::<_, ()>(1u8)).map(|byte| *byte));
        alloc_slice_try_fill_with: |a| ignore(a.alloc_slice_try_fill_with(1, Ok::<_, usize>).is_ok());
        alloc_slice_fill_copy: |a| ignore(a.alloc_slice_fill_copy(1, 1u8).len());
        alloc_slice_fill_clone: |a| ignore(a.alloc_slice_fill_clone(1, &1u8).len());
        alloc_slice_fill_default: |a| ignore(a.alloc_slice_fill_default::<u8>(1).len());
        alloc_slice_fill_iter: |a| ignore(a.alloc_slice_fill_iter([1u8]).len());
        alloc_slice_fill_iter_too_few: |a| ignore(a.alloc_slice_fill_iter(too_few()).len());
        try_alloc_slice_fill_iter: |a| ignore(a.try_alloc_slice_fill_iter(too_few()).is_ok());
        alloc_slice_try_fill_iter: |a| {
            ignore(a.alloc_slice_try_fill_iter([Ok::<u8, ()>(1)]).is_ok());
        };
        alloc_slice_try_fill_iter_too_few: |a| {
            ignore(a.alloc_slice_try_fill_iter(too_few().map(Ok::<_, ()>)).is_ok());
        };
        try_alloc_slice_try_fill_iter: |a| {
            ignore(a.try_alloc_slice_try_fill_iter(too_few().map(Ok::<_, ()>)).is_ok());
        };
        alloc_str: |a| ignore(a.alloc_str("a").len());
        alloc_fmt: |a| ignore(a.alloc_fmt(format_args!("{}", 1)).len());
        alloc_fmt_of_what_fails: |a| ignore(a.alloc_fmt(format_args!("{Failing}")).len());
        try_alloc_fmt: |a| ignore(a.try_alloc_fmt(format_args!("{Failing}")).is_ok());
        alloc_iter: |a| ignore(a.alloc_iter([1u8]).len());
        alloc_layout: |a| ignore(a.alloc_layout(std::alloc::Layout::new::<u8>()));
        alloc_layout_zeroed: |a| ignore(a.alloc_layout_zeroed(std::alloc::Layout::new::<u8>()));
        rewind_of_another: |a| a.rewind(full().checkpoint());
        rewind_to_what_was_freed: |a| {
            let checkpoint = a.checkpoint();
            a.reset();
            a.rewind(checkpoint);
        };
    }
}

#[test]
fn every_method_of_a_concurrent_vec_that_panics() {
    each_panic_names_this_file! { ConcurrentVec<u64>: ConcurrentVec::from(full());
        push: |v| ignore(v.push(4));
        push_with: |v| ignore(v.push_with(|_| 4));
        push_mut: |v| ignore(v.push_mut(4));
        extend: |v| v.extend([4]);
        extend_by_reference: |v| v.extend(&[4]);
        extend_shared: |v| Extend::extend(&mut &*v, [4]);
        extend_shared_by_reference: |v| Extend::extend(&mut &*v, [4].iter());
        extend_method: |v| ConcurrentVec::extend(v, [4]);
        extend_from_slice: |v| ignore(v.extend_from_slice(&[4]));
        reserve: |v| v.reserve(1);
        reserve_exact: |v| v.reserve_exact(1);
        follow_from: |v| ignore(v.follow_from(4));
        index: |v| ignore(v[3]);
        index_range: |v| ignore(v[2..5].len());
        index_mut: |v| v[3] = 1;
    }
    names_this_file("clone", || {
        let budget = pagewise::Budget::new(page_size());
        let vec = ConcurrentVec::builder(10).budget(budget).build().unwrap();
        vec.push(1);
        ignore(vec.clone());
    });
    // More than there are addresses: reserved when they are first needed.
    const LAZY: usize = usize::MAX / 8;
    names_this_file("push of a lazy one", || ignore(ConcurrentVec::lazy(LAZY).push(1u64)));
    names_this_file("push_with of a lazy one", || {
        ignore(ConcurrentVec::lazy(LAZY).push_with(|_| 1u64))
    });
    names_this_file("push_mut of a lazy one", || ignore(*ConcurrentVec::lazy(LAZY).push_mut(1u64)));
    names_this_file("into_page_vec of a lazy one", || {
        ignore(ConcurrentVec::<u64>::lazy(LAZY).into_page_vec())
    });
    names_this_file("PageVec::from a lazy one", || {
        ignore(PageVec::<u64>::from(ConcurrentVec::lazy(LAZY)))
    });
    names_this_file("into_iter of a lazy one", || {
        ignore(ConcurrentVec::<u64>::lazy(LAZY).into_iter())
    });
}

#[cfg(feature = "rayon")]
#[test]
fn extending_in_parallel() {
    use rayon::iter::{IntoParallelIterator, ParallelExtend, ParallelIterator};
    each_panic_names_this_file! { PageVec<u64>: full();
        par_extend_known: |v| v.par_extend([4].into_par_iter());
        par_extend_unknown: |v| v.par_extend([4].into_par_iter().filter(|_| true));
    }
    each_panic_names_this_file! { ConcurrentVec<u64>: ConcurrentVec::from(full());
        par_extend: |v| v.par_extend([4].into_par_iter());
        par_extend_shared: |v| (&mut &*v).par_extend([4].into_par_iter());
    }
    names_this_file("ParIntoIter::clone", || {
        let budget = pagewise::Budget::new(page_size());
        let mut vec = PageVec::builder(10).budget(budget).build().unwrap();
        vec.push(1u64);
        ignore(vec.into_par_iter().clone());
    });
}
