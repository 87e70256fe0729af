//! Whether it pays to populate pages that are about to be written.
//!
//! Populating (`MADV_POPULATE_WRITE`) saves the faults of the first touches, and costs a system call and a walk of its own.
//! Which of them is dearer depends on the processor, and on how its virtual machine is made: what gains a tenth on a virtual
//! Intel Xeon costs a sixth on a virtual AMD EPYC. So it is measured, once in each process, when so many pages were
//! populated that the measurement is a few hundredths of what that took.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::{Attributes, now_ns, page_size, unix};

/// Calls before it is measured.
const BEFORE: u32 = 1000;
static CALLS: AtomicU32 = AtomicU32::new(0);

/// What pays: bits. Until it is measured, everything.
static PAYS: AtomicU8 = AtomicU8::new(ONE | MANY);
/// A single page.
const ONE: u8 = 1;
/// Several pages at once.
const MANY: u8 = 2;

/// Whether populating that many bytes takes no longer than touching them would. Async-signal-safe.
pub(crate) fn prefaulting_pays(len: usize) -> bool {
    if CALLS.load(Ordering::Relaxed) <= BEFORE && CALLS.fetch_add(1, Ordering::Relaxed) == BEFORE {
        measure();
    }
    let kind = if len <= page_size() { ONE } else { MANY };
    PAYS.load(Ordering::Relaxed) & kind != 0
}

/// The shortest times, in nanoseconds, for as many pages.
#[derive(Clone, Copy, Debug)]
struct Times {
    touched: u64,
    populated_one_by_one: u64,
    populated_at_once: u64,
}

/// What is a little dearer may be so by chance, and is kept.
fn pays(times: Times) -> u8 {
    let pays = |time: u64| time.saturating_mul(10) <= times.touched.saturating_mul(11);
    let one = if pays(times.populated_one_by_one) { ONE } else { 0 };
    one | if pays(times.populated_at_once) { MANY } else { 0 }
}

#[cold]
#[inline(never)] // the fault handler has little stack
fn measure() {
    if let Some(times) = times() {
        PAYS.store(pays(times), Ordering::Relaxed);
    }
}

/// `None` where the system gives no memory for it. About 80 µs, with small pages.
fn times() -> Option<Times> {
    const PAGES: usize = 8;
    const ROUNDS: usize = 3;
    let part = PAGES * page_size();
    let len = 3 * ROUNDS * part;
    let area = super::reserve(len, page_size(), &Attributes::PLAIN).ok()?;
    let mut shortest = NEVER;
    // SAFETY: memory of our own, of which each part is used once.
    unsafe {
        let made = unix::commit(area, len);
        for round in (0..ROUNDS).filter(|_| made.is_ok()) {
            let start = area.add(3 * round * part);
            let took = timed(|| touch(start, PAGES));
            shortest.touched = shortest.touched.min(took);
            let start = start.add(part);
            let took = timed(|| {
                for page in 0..PAGES {
                    super::prefault(start.add(page * page_size()), page_size());
                    touch(start.add(page * page_size()), 1);
                }
            });
            shortest.populated_one_by_one = shortest.populated_one_by_one.min(took);
            let start = start.add(part);
            let took = timed(|| {
                super::prefault(start, part);
                touch(start, PAGES);
            });
            shortest.populated_at_once = shortest.populated_at_once.min(took);
        }
        let _ = unix::release(area, len);
        made.is_ok().then_some(shortest)
    }
}

const NEVER: Times =
    Times { touched: u64::MAX, populated_one_by_one: u64::MAX, populated_at_once: u64::MAX };

fn timed(work: impl FnOnce()) -> u64 {
    let began = clock();
    work();
    clock().saturating_sub(began)
}

/// (By itself, so that no caller keeps the address of the system's function in a register: what the handler calls is
/// followed by a test.)
#[inline(never)]
fn clock() -> u64 {
    now_ns()
}

/// Writes a byte to each page.
///
/// # Safety
/// The memory is the caller's.
unsafe fn touch(start: NonNull<u8>, pages: usize) {
    for page in 0..pages {
        // SAFETY: the caller's promise.
        unsafe { start.as_ptr().add(page * page_size()).write_volatile(1) };
    }
}

/// As if it had been measured.
#[cfg(test)]
pub(crate) fn pretend_that_prefaulting_pays(does: bool) {
    CALLS.store(BEFORE + 1, Ordering::Relaxed);
    PAYS.store(if does { ONE | MANY } else { 0 }, Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_a_touch_does_not_pay() {
        let of = |touched, populated_one_by_one, populated_at_once| {
            pays(Times { touched, populated_one_by_one, populated_at_once })
        };
        assert_eq!(of(1000, 800, 700), ONE | MANY);
        assert_eq!(of(1000, 1100, 1100), ONE | MANY, "by chance");
        assert_eq!(of(1000, 1101, 700), MANY);
        assert_eq!(of(1000, 900, 1200), ONE);
        assert_eq!(of(1000, 2000, 2000), 0);
        assert_eq!(of(u64::MAX, u64::MAX, u64::MAX), ONE | MANY);
    }

    #[test]
    fn it_is_measured_and_its_memory_goes_back() {
        let times = times().unwrap();
        let each = [times.touched, times.populated_one_by_one, times.populated_at_once];
        assert!(each.iter().all(|&time| (1..1_000_000_000).contains(&time)), "{times:?}");
    }
}
