//! Elements move in from other containers and out again, once each; arrays equal whatever has equal elements.
//! (`page_vec_behaves_as_std_vec` converts at random, and finds the same as with a `Vec`.)

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use pagewise::{PageVec, page_size};

fn counted(count: usize) -> (Rc<()>, Vec<Rc<()>>) {
    let one = Rc::new(());
    let all = vec![Rc::clone(&one); count];
    (one, all)
}

#[test]
fn conversions_move_every_element_once() {
    let (one, all) = counted(5);
    let vec = PageVec::try_from(all).unwrap();
    assert_eq!(Rc::strong_count(&one), 6);
    let boxed: Box<[_]> = vec.into_boxed_slice();
    let vec = PageVec::try_from(boxed).unwrap();
    let array: [_; 5] = vec.try_into().unwrap();
    let vec = PageVec::try_from(array).unwrap();
    assert_eq!(<[_; 4]>::try_from(vec.clone()).unwrap_err().len(), 5, "handed back");
    let shared: Arc<[_]> = vec.into();
    assert_eq!((shared.len(), Rc::strong_count(&one)), (5, 6));
    drop(shared);
    let shared: Rc<[_]> = PageVec::try_from(vec![Rc::clone(&one); 3]).unwrap().into();
    assert_eq!((shared.len(), Rc::strong_count(&one)), (3, 4));
    drop(shared);
    assert_eq!(PageVec::try_from([Rc::clone(&one)]).unwrap().into_vec().len(), 1);
    assert_eq!(Rc::strong_count(&one), 1);
}

#[test]
fn what_was_converted_can_grow() {
    let mut vec = PageVec::try_from(vec![1u8; 3 * page_size()]).unwrap();
    assert!(vec.max_len() > 3 * page_size());
    vec.extend(std::iter::repeat_n(2, page_size()));
    assert_eq!(vec.len(), 4 * page_size());
    // (The simulated system has fewer addresses.)
    if cfg!(all(not(miri), not(pagewise_model), target_pointer_width = "64")) {
        assert_eq!(vec.max_len(), 4 << 30);
        assert_eq!(PageVec::<[u64; 4]>::default().max_len(), (4 << 30) / 32);
    }
    assert_eq!(PageVec::<()>::default().max_len(), usize::MAX);
    assert_eq!(PageVec::<[u8; 1 << 33]>::DEFAULT_MAX_LEN, 1);
}

#[test]
fn a_default_costs_addresses_only() {
    let vec = PageVec::<u64>::default();
    assert_eq!((vec.len(), vec.committed()), (0, 0));
    assert!(vec.max_len() > 0);
}

/// Under a limit of the address space, nothing more can be reserved: what was to be converted comes back.
#[cfg(all(target_os = "linux", not(miri), not(pagewise_model)))]
#[test]
fn what_cannot_be_converted_comes_back() {
    use crate::common::{emulated, in_a_process, not_here, sanitized};
    use pagewise::{Error, PushError};
    if emulated() || sanitized() || std::env::var_os("TSAN_OPTIONS").is_some() {
        return not_here("RLIMIT_AS: the emulator's or the sanitizer's addresses would count");
    }
    in_a_process("what_cannot_be_converted_comes_back", || {
        let all: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: sets a limit of this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let refused: PushError<Vec<String>> = PageVec::try_from(all).unwrap_err();
        let (all, error) = refused.into_parts();
        let is_fitting = matches!(error, Error::AddressSpaceExhausted { .. });
        assert!(is_fitting && all.len() == 100_000 && all[99_999] == "99999");
        let refused = PageVec::try_from(all.into_boxed_slice()).unwrap_err();
        assert_eq!(refused.into_value().len(), 100_000);
        let refused = PageVec::try_from([7, 8]).unwrap_err();
        assert_eq!(refused.into_value(), [7, 8]);
        assert!(PageVec::try_from(&[7, 8][..]).is_err());
        assert!(std::panic::catch_unwind(PageVec::<u8>::default).is_err());
    })
    .well();
}

#[test]
fn arrays_equal_whatever_has_equal_elements() {
    let vec = PageVec::try_from_iter(10, [1, 2]).unwrap();
    both_ways! { vec =>
        [1, 2], [1, 3];
        &[1, 2], &[1, 3];
        &mut [1, 2], &mut [1, 3];
        [1, 2][..], [1][..];
        &[1, 2][..], &[1][..];
        &mut [1, 2][..], &mut [1][..];
        vec![1, 2], vec![2];
        Box::<[i32]>::from([1, 2]), Box::<[i32]>::from([2]);
        Cow::<[i32]>::Borrowed(&[1, 2]), Cow::<[i32]>::Borrowed(&[1]);
        Cow::<[i32]>::Owned(vec![1, 2]), Cow::<[i32]>::Owned(vec![1]);
    }
    // Elements of another type, where they can be compared.
    assert!(PageVec::try_from_iter(1, [String::from("a")]).unwrap() == ["a"]);
}

#[test]
fn a_pushed_element_can_be_changed_where_it_is() {
    let mut vec = PageVec::new(2).unwrap();
    vec.push_mut(String::from("a")).push('b');
    let end = vec.as_ptr().wrapping_add(1);
    assert!(std::ptr::eq(vec.push_mut(String::new()), end));
    assert_eq!(vec, ["ab", ""]);
}

#[test]
fn formatted_text_is_appended() {
    use std::fmt::Write;
    let mut vec = PageVec::try_from_iter(100, *b"> ").unwrap();
    write!(vec, "{:>3}|{:?}", 7, "x").unwrap();
    vec.write_char('é').unwrap();
    assert_eq!(vec, "> \u{20} 7|\"x\"é".as_bytes());
}
