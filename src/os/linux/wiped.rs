//! Memory that the child of a fork finds full of zeros (`MADV_WIPEONFORK`, Linux 4.14;
//! [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html)), also one that was not told of its fork: that of
//! a bare `clone`, and of a fork that was under way when its handlers were registered.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Attributes, OsError, advise, page_size, unix};
use crate::os::Wiped;

/// Null, or a page that is mapped for ever. All zeros are a value of [`Wiped`].
static PAGE: AtomicPtr<Wiped> = AtomicPtr::new(ptr::null_mut());

pub(super) fn made() -> Option<&'static Wiped> {
    // SAFETY: the invariant.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

pub(super) fn make() -> Result<&'static Wiped, OsError> {
    if let Some(made) = made() {
        return Ok(made);
    }
    let page = super::reserve(page_size(), page_size(), &Attributes::PLAIN)?;
    // SAFETY: a page of our own, which no one else has seen where it is given back.
    unsafe {
        unix::commit(page, page_size())
            .and_then(|()| advise(page, page_size(), libc::MADV_WIPEONFORK))
            .inspect_err(|_| _ = unix::release(page, page_size()))?;
        let mine = page.as_ptr().cast();
        match PAGE.compare_exchange(ptr::null_mut(), mine, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(&*mine),
            Err(made) => {
                let _ = unix::release(page, page_size());
                Ok(&*made)
            }
        }
    }
}

/// `None` on kernels that cannot wipe memory: there, a child of a fork that was under way when [`watch_forks`] was first
/// called may take itself for its parent.
///
/// [`watch_forks`]: super::unix::watch_forks
pub(crate) fn wiped_in_children() -> Option<&'static Wiped> {
    make().ok()
}
