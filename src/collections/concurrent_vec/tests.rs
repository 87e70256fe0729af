use crate::os;

use super::*;

/// In a child, the thread of the parent that was pushing does not exist: what it had not published is forgotten.
#[test]
fn a_child_takes_over_from_a_thread_that_was_pushing() {
    let vec = ConcurrentVec::new(1000).unwrap();
    vec.push(1);
    // Played by this thread: its element is there, and not published.
    vec.lock.lock();
    // SAFETY: the lock is held.
    unsafe { vec.storage.try_push(99).unwrap() };
    os::assert_in_a_child(|| vec.push(2) == 1 && vec.push(3) == 2 && *vec.as_slice() == [1, 2, 3]);
    vec.published.store(2, Ordering::Release);
    vec.lock.unlock();
    assert_eq!((vec.push(4), vec.as_slice()), (2, &[1, 99, 4][..]));
}
