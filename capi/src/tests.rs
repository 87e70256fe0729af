//! No panic leaves a function.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use super::*;

thread_local! {
    static WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Stands for a bug in whatever a function of this interface calls.
pub(super) fn panic_if_wanted() {
    assert!(!WANTED.replace(false), "a panic that the test wants");
}

/// Calls a function whose work panics: its result, and the error's text.
fn panicking<T>(call: impl FnOnce() -> T) -> (T, String) {
    status::fail(Status::System, &"an error of before");
    WANTED.set(true);
    let result = call();
    assert!(!WANTED.get(), "it did not go through the catch of panics");
    // SAFETY: a string of this thread, copied before the next call.
    let text = unsafe { CStr::from_ptr(pagewise_last_error()) };
    (result, text.to_str().unwrap().to_owned())
}

#[test]
fn a_panic_in_any_function_is_an_error_and_never_leaves_it() {
    // SAFETY: pointers are as the header says.
    unsafe {
        let (mut region, mut memory) = (ptr::null_mut(), ptr::null_mut());
        let (mut budget, mut arena) = (ptr::null_mut(), ptr::null_mut());
        let mut map = ptr::null_mut();
        assert_eq!(pagewise_region_new(1, ptr::null(), &mut region), Status::Ok);
        assert_eq!(pagewise_reservation_new(1, ptr::null(), &mut memory), Status::Ok);
        assert_eq!(pagewise_budget_new(1, &mut budget), Status::Ok);
        let mut taken = ptr::null_mut();
        assert_eq!(pagewise_budget_take(budget, 1, &mut taken), Status::Ok);
        assert_eq!(pagewise_arena_new(1, ptr::null(), &mut arena), Status::Ok);
        assert_eq!(pagewise_region_page_map(region, &mut map), Status::Ok);
        let (mut byte, mut number, mut answer): (u8, usize, c_int) = (0, 99, 0);
        let (into, from) = ((&raw mut byte).cast::<c_void>(), (&raw const byte).cast());
        let (mut stats, mut event) = (Stats::default(), Event::default());
        let (mut other, mut place) = (ptr::null_mut(), ptr::null_mut());
        let mut run = PageRun { first: 0, count: 0, state: 0 };
        let mut options = std::mem::zeroed::<Options>();
        let refusal = std::mem::zeroed::<Refusal>();
        let why = "a bug in pagewise: it panicked".to_string();
        macro_rules! check {
            ($($call:expr => $result:expr;)*) => {
                $(assert_eq!(panicking(|| $call), ($result, why.clone()), stringify!($call));)*
            };
        }
        check! {
            pagewise_page_size() => 0;
            pagewise_options_default(&mut options, size_of::<Options>()) => Status::Panic;
            pagewise_region_new(1, ptr::null(), &mut ptr::null_mut()) => Status::Panic;
            pagewise_region_ptr(region) => ptr::null_mut();
            pagewise_region_len(region) => 0;
            pagewise_region_page_size(region) => 0;
            pagewise_region_committed(region) => 0;
            pagewise_region_is_committed(region, 0, 1, &mut answer) => Status::Panic;
            pagewise_region_stats(region, &mut stats, size_of::<Stats>()) => Status::Panic;
            pagewise_region_events(region, &mut event, 1, &mut number) => Status::Panic;
            pagewise_region_page_map(region, &mut other) => Status::Panic;
            pagewise_region_read(region, 0, into, 1, &mut number) => Status::Panic;
            pagewise_region_peek(region, 0, into, 1) => Status::Panic;
            pagewise_region_write(region, 0, from, 1, &mut number) => Status::Panic;
            pagewise_region_fill(region, 0, 1, 7, &mut number) => Status::Panic;
            pagewise_region_commit(region, 0, 1) => Status::Panic;
            pagewise_region_decommit(region, 0, 1) => Status::Panic;
            pagewise_region_zero(region, 0, 1) => Status::Panic;
            pagewise_region_release(region) => Status::Panic;
            pagewise_page_map_runs(map) => 0;
            pagewise_page_map_run(map, 0, &mut run) => Status::Panic;
            pagewise_reservation_new(1, ptr::null(), &mut ptr::null_mut()) => Status::Panic;
            pagewise_reservation_ptr(memory) => ptr::null_mut();
            pagewise_reservation_len(memory) => 0;
            pagewise_reservation_page_size(memory) => 0;
            pagewise_reservation_committed(memory) => 0;
            pagewise_reservation_peak(memory) => 0;
            pagewise_reservation_limit(memory) => 0;
            pagewise_reservation_is_committed(memory, 0, 1, &mut answer) => Status::Panic;
            pagewise_reservation_page_map(memory, &mut other) => Status::Panic;
            pagewise_reservation_commit(memory, 0, 1) => Status::Panic;
            pagewise_reservation_decommit(memory, 0, 1) => Status::Panic;
            pagewise_reservation_zero(memory, 0, 1) => Status::Panic;
            pagewise_reservation_discard(memory, 0, 1) => Status::Panic;
            pagewise_reservation_protect(memory, 0, 1, 2) => Status::Panic;
            pagewise_reservation_prefault(memory, 0, 1) => Status::Panic;
            pagewise_reservation_lock(memory, 0, 1) => Status::Panic;
            pagewise_reservation_unlock(memory, 0, 1) => Status::Panic;
            pagewise_reservation_release(memory) => Status::Panic;
            pagewise_budget_new(1, &mut ptr::null_mut()) => Status::Panic;
            pagewise_budget_limit(budget) => 0;
            pagewise_budget_used(budget) => 0;
            pagewise_budget_peak(budget) => 0;
            pagewise_budget_child(budget, 1, &mut ptr::null_mut()) => Status::Panic;
            pagewise_budget_set_limit(budget, 2) => Status::Panic;
            pagewise_budget_available(budget) => 0;
            pagewise_budget_take(budget, 0, &mut ptr::null_mut()) => Status::Panic;
            pagewise_taken_resize(taken, 0) => Status::Panic;
            pagewise_region_set_limit(region, 1) => Status::Panic;
            pagewise_reservation_set_limit(memory, 1) => Status::Panic;
            pagewise_arena_peak(arena) => 0;
            pagewise_arena_limit(arena) => 0;
            pagewise_arena_set_limit(arena, 1) => Status::Panic;
            pagewise_arena_new(1, ptr::null(), &mut ptr::null_mut()) => Status::Panic;
            pagewise_arena_alloc(arena, 1, 1, &mut place) => Status::Panic;
            pagewise_arena_alloc_zeroed(arena, 1, 1, &mut place) => Status::Panic;
            pagewise_arena_reserve(arena, 1) => Status::Panic;
            pagewise_arena_used(arena) => 0;
            pagewise_arena_committed(arena) => 0;
            pagewise_arena_max_bytes(arena) => 0;
            pagewise_arena_checkpoint(arena, &mut number) => Status::Panic;
            pagewise_arena_rewind(arena, 0) => Status::Panic;
            pagewise_arena_reset(arena) => Status::Panic;
            pagewise_arena_shrink(arena) => Status::Panic;
            pagewise_try(None, ptr::null_mut(), ptr::null_mut()) => Status::Panic;
            pagewise_refusal_text(&refusal, into.cast(), 1) => Status::Panic;
            pagewise_install() => Status::Panic;
            pagewise_is_displaced() => -1;
            pagewise_reinstall() => Status::Panic;
            pagewise_region_free(region) => ();
            pagewise_reservation_free(memory) => ();
            pagewise_page_map_free(map) => ();
            pagewise_taken_free(taken) => ();
            pagewise_budget_free(budget) => ();
            pagewise_arena_free(arena) => ();
        }
    }
}

/// The list above has every function, but for those in which nothing can panic.
#[test]
fn every_function_is_in_the_test_of_panics() {
    let sources = [
        include_str!("lib.rs"),
        include_str!("arena.rs"),
        include_str!("budget.rs"),
        include_str!("fault.rs"),
        include_str!("filter.rs"),
        include_str!("options.rs"),
        include_str!("page_map.rs"),
        include_str!("region.rs"),
        include_str!("reservation.rs"),
        include_str!("status.rs"),
    ];
    let without_work = [
        "pagewise_abi_version",
        "pagewise_last_error",
        "pagewise_in_filter",
        "pagewise_try_handle",
        "pagewise_report_to",
        "pagewise_report_to_stderr",
    ];
    let tested = include_str!("tests.rs");
    let mut functions = 0;
    for source in sources {
        for part in source.split(concat!("#[unsafe", "(no_mangle)]")).skip(1) {
            let (_, part) = part.split_once("fn ").unwrap();
            let (name, _) = part.split_once('(').unwrap();
            functions += 1;
            let is_tested = tested.contains(&format!("            {name}("));
            assert!(is_tested != without_work.contains(&name), "{name}");
        }
    }
    assert!(functions > 80, "{functions} functions");
}
