//! Variance, `Send`, `Sync`, unwind safety and size, checked by the compiler.

use std::cell::Cell;
use std::iter::FusedIterator;
use std::rc::Rc;

use pagewise::{
    Arena, Budget, BudgetGuard, ConcurrentVec, PageVec, PushError, concurrent_vec, page_vec,
};

/// Whether `$type: $trait`: an inherent constant, for types that have the trait, hides the one of a trait that all
/// types have.
macro_rules! is {
    ($type:ty: $($trait:tt)+) => {{
        #[allow(dead_code)]
        trait Otherwise { const IS: bool = false; }
        impl<T: ?Sized> Otherwise for T {}
        struct Question<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        impl<T: ?Sized + $($trait)+> Question<T> { const IS: bool = true; }
        <Question<$type>>::IS
    }};
}

const _: () = {
    assert!(is!(PageVec<u8>: Send) && is!(PageVec<u8>: Sync));
    assert!(!is!(PageVec<Rc<u8>>: Send) && !is!(PageVec<Rc<u8>>: Sync));
    assert!(is!(PageVec<Cell<u8>>: Send) && !is!(PageVec<Cell<u8>>: Sync));
    assert!(
        is!(page_vec::Drain<'static, u8>: Send) && !is!(page_vec::Drain<'static, Rc<u8>>: Send)
    );
    assert!(is!(page_vec::MemoryView<'static>: Send) && is!(page_vec::MemoryView<'static>: Sync));
    assert!(is!(page_vec::Drain<'static, u8>: Sync));
    assert!(!is!(page_vec::Drain<'static, Cell<u8>>: Sync));
    assert!(is!(page_vec::IntoIter<u8>: Send) && !is!(page_vec::IntoIter<Rc<u8>>: Send));
    assert!(is!(ConcurrentVec<u8>: Send) && is!(ConcurrentVec<u8>: Sync));
    assert!(is!(ConcurrentVec<Cell<u8>>: Send) && !is!(ConcurrentVec<Cell<u8>>: Sync));
    assert!(!is!(ConcurrentVec<Rc<u8>>: Send) && !is!(ConcurrentVec<Rc<u8>>: Sync));
    assert!(is!(concurrent_vec::Follow<'static, u8>: Send));
    assert!(is!(concurrent_vec::Follow<'static, u8>: Sync));
    assert!(!is!(concurrent_vec::Follow<'static, Cell<u8>>: Send));
    assert!(!is!(concurrent_vec::Follow<'static, Cell<u8>>: Sync));
    assert!(is!(std::slice::Iter<'static, u8>: ExactSizeIterator + DoubleEndedIterator));
    assert!(is!(ConcurrentVec<u8>: Ord) && !is!(ConcurrentVec<u8>: std::hash::Hash));
    assert!(!is!(ConcurrentVec<std::sync::MutexGuard<'static, u8>>: Sync));
    assert!(is!(Arena: Send) && !is!(Arena: Sync) && is!(Arena: std::panic::UnwindSafe));
    assert!(is!(Budget: Send) && is!(Budget: Sync) && is!(Budget: std::panic::RefUnwindSafe));
    assert!(is!(BudgetGuard: Send) && is!(BudgetGuard: Sync));
    assert!(is!(PushError<Rc<u8>>: std::error::Error));
    assert!(
        is!(PageVec<u8>: std::panic::UnwindSafe) && is!(PageVec<u8>: std::panic::RefUnwindSafe)
    );
    assert!(is!(ConcurrentVec<u8>: std::panic::RefUnwindSafe));
    assert!(size_of::<PageVec<u8>>() == 5 * size_of::<usize>());
    assert!(size_of::<Option<PageVec<u8>>>() == size_of::<PageVec<u8>>());
};

#[cfg(feature = "zerocopy")]
const _: () = {
    use pagewise::DemandArray;
    assert!(is!(DemandArray<u8>: Send) && is!(DemandArray<u8>: Sync));
    assert!(is!(DemandArray<Cell<u8>>: Send) && !is!(DemandArray<Cell<u8>>: Sync));
    assert!(!is!(DemandArray<*mut u8>: Send) && !is!(DemandArray<*mut u8>: Sync));
};

// Covariant: what holds longer-lived elements may be used as holding shorter-lived ones.
fn _page_vec<'short>(vec: PageVec<&'static str>) -> PageVec<&'short str> {
    vec
}
fn _drain<'short>(
    drain: page_vec::Drain<'static, &'static str>,
) -> page_vec::Drain<'short, &'short str> {
    drain
}
fn _into_iter<'short>(iter: page_vec::IntoIter<&'static str>) -> page_vec::IntoIter<&'short str> {
    iter
}

fn _iter<'short>(
    vec: &'short ConcurrentVec<&'static str>,
) -> impl ExactSizeIterator<Item = &'short &'short str> + DoubleEndedIterator + FusedIterator {
    let iter: std::slice::Iter<'short, &'static str> = vec.iter();
    let iter: std::slice::Iter<'short, &'short str> = iter;
    iter
}
fn _follow<'short>(
    follow: concurrent_vec::Follow<'static, &'static str>,
) -> concurrent_vec::Follow<'short, &'short str> {
    follow
}

#[test]
fn elements_may_borrow_what_lives_longer() {
    let text = String::from("text");
    let vec = PageVec::try_from_iter(2, [text.as_str()]).unwrap();
    let shared = ConcurrentVec::new(2).unwrap();
    shared.push(text.as_str());
    assert_eq!((vec[0], shared[0]), ("text", "text"));
}
