//! What the fault handler calls.

use std::sync::atomic::Ordering;

use super::cache::Number;
use super::core::{Core, Trouble};
use super::moves::{Handler, Source, Wish};
use super::stats::add;
use crate::error::Refusal;
use crate::fault::{Fault, Outcome};
use crate::os;

/// A fault in a region. Async-signal-safe as far as the store is.
///
/// # Safety
/// `owner` is a core, and lives as long as the caller is its guest.
pub(super) unsafe fn serve(owner: *const (), fault: Fault) -> Outcome {
    // SAFETY: the caller's promise.
    let core = unsafe { &*owner.cast::<Core>() };
    let began = os::now_ns();
    let region = core.ground.start.addr().get();
    let offset = fault.address.saturating_sub(region);
    let wish = Wish {
        page: core.ground.whole_pages(offset) as Number,
        write: fault.write,
        pin: false,
        source: Source::Store,
    };
    let outcome = match core.fulfil::<Handler>(wish) {
        Ok(()) => {
            add(&core.counters.faults, 1);
            Outcome::Resolved
        }
        Err(Trouble::NotOurs) => Outcome::NotOurs,
        Err(trouble) => Outcome::Refused(Refusal { offset, region, reason: core.reason(&trouble) }),
    };
    add(&core.counters.waited_ns, os::now_ns().saturating_sub(began));
    outcome
}

/// In the child of a fork: the region belongs to the parent. Async-signal-safe.
///
/// # Safety
/// `owner` is a living core.
pub(super) unsafe fn forked(owner: *const ()) {
    // SAFETY: the caller's promise.
    let core = unsafe { &*owner.cast::<Core>() };
    if !core.is_left.swap(true, Ordering::Relaxed) {
        core.engine.leave_to_parent(core.ground);
        core.account.recount(0);
    }
}
