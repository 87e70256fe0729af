//! What the fault handler calls.

use std::sync::atomic::Ordering;

use super::cache::Number;
use super::core::{Core, Trouble};
use super::moves::{Done, Handler, Wish};
use super::stats::add;
use crate::error::Refusal;
use crate::fault::{Fault, FaultEvent, FaultOutcome, Outcome};
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
    let wish = Wish::of_store(core.ground.whole_pages(offset) as Number, fault.write);
    let record = |outcome| core.events.push(FaultEvent { offset, write: fault.write, outcome });
    let outcome = match core.fulfil::<Handler>(wish) {
        Ok(done) => {
            add(&core.counters.faults, 1);
            let (len, start) = (core.ground.page_bytes, core.extent(wish.page).0 as usize);
            match done {
                Done::Nothing => {}
                Done::Reached { .. } if fault.write == Some(true) => {
                    record(FaultOutcome::Changed { start, len });
                }
                // (A page that was read ahead was there, too: the fault only tells how far the program came.)
                Done::Reached { .. } => {}
                Done::Loaded { .. } => record(FaultOutcome::Loaded { start, len }),
                Done::Rescued => record(FaultOutcome::Rescued { start, len }),
                Done::Opened => record(FaultOutcome::Changed { start, len }),
            }
            Outcome::Resolved
        }
        Err(Trouble::NotOurs) => Outcome::NotOurs,
        Err(trouble) => {
            record(FaultOutcome::Refused);
            Outcome::Refused(Refusal { offset, region, reason: core.reason(&trouble) })
        }
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
        // (Later, other mappings may be there. A touch that finds none comes to the handler, and is refused.)
        if !os::was_told_late() {
            core.engine.leave_to_parent(core.ground);
        }
        core.account.recount(0);
    }
}
