//! Guard pages, reserved pages and pages whose access rights were taken away cannot be touched. The system is asked
//! about each page, and child processes that touch one must die.
#![cfg(all(unix, not(pagewise_model)))]

use std::io::Write;

use crate::common::{self, each_in_a_process, in_a_process, peek, poke, rights};
use pagewise::{
    Access, Arena, CommitStep, ConcurrentVec, DemandRegion, PageVec, Reservation, page_size,
};

const NONE: (bool, bool) = (false, false);
const READ: (bool, bool) = (true, false);
const BOTH: (bool, bool) = (true, true);

/// The access rights of each page of a reservation, according to the system.
fn rights_of(memory: &Reservation) -> Vec<(bool, bool)> {
    (0..memory.len() / page_size()).map(|page| rights(at(memory, page))).collect()
}

fn at(memory: &Reservation, page: usize) -> *mut u8 {
    memory.as_ptr().wrapping_add(page * page_size())
}

#[test]
fn each_page_has_the_rights_that_were_given_to_it_and_its_neighbours_keep_theirs() {
    let page = page_size();
    let memory = Reservation::builder(8 * page).guard_pages(1).build().unwrap();
    assert_eq!(rights_of(&memory), [NONE; 8], "reserved");
    memory.commit(page..7 * page).unwrap();
    assert_eq!(rights_of(&memory), [NONE, BOTH, BOTH, BOTH, BOTH, BOTH, BOTH, NONE]);
    // SAFETY: these pages are committed.
    unsafe { at(&memory, 1).write_bytes(7, 6 * page) };
    memory.protect(2 * page..3 * page, Access::Read).unwrap();
    // Rounded outward: one page.
    memory.protect(4 * page + 1..4 * page + 2, Access::None).unwrap();
    memory.protect(5 * page..6 * page, Access::ReadExecute).unwrap();
    assert_eq!(rights_of(&memory), [NONE, BOTH, READ, BOTH, NONE, READ, BOTH, NONE]);
    memory.commit(page..7 * page).unwrap();
    assert_eq!(rights_of(&memory)[2..6], [READ, BOTH, NONE, READ], "a commit changes no rights");
    memory.protect(4 * page..5 * page, Access::Read).unwrap();
    assert_eq!((peek(at(&memory, 2)), peek(at(&memory, 4))), (7, 7));
    memory.protect(2 * page..6 * page, Access::ReadWrite).unwrap();
    assert_eq!(rights_of(&memory), [NONE, BOTH, BOTH, BOTH, BOTH, BOTH, BOTH, NONE]);
    memory.protect(3 * page..4 * page, Access::None).unwrap();
    memory.decommit(2 * page..5 * page).unwrap();
    assert_eq!(rights_of(&memory), [NONE, BOTH, NONE, NONE, NONE, BOTH, BOTH, NONE]);
    memory.commit(..).unwrap();
    assert_eq!(rights_of(&memory), [BOTH; 8], "a new page has the rights of a commit");
}

#[test]
fn pages_of_a_region_are_accessible_exactly_where_they_are_committed() {
    let page = page_size();
    for engine in common::engines() {
        let builder = DemandRegion::builder(1200 * page).engine(engine).step(CommitStep::page());
        let mut region = builder.limit(400 * page).build().unwrap();
        let check = |region: &DemandRegion, when: &str| {
            let start = region.as_ptr();
            let wrong = (0..region.len() / page).find(|index| {
                let committed = region.is_committed(index * page..(index + 1) * page);
                rights(start.wrapping_add(index * page)) != (committed, committed)
            });
            assert_eq!(wrong, None, "{engine:?}, {when}");
        };
        check(&region, "nothing committed");
        // Scattered pages, dense ones, and a range.
        for index in (0..600).step_by(67).chain((600..700).step_by(2)) {
            region.write(index * page, &[1]).unwrap();
        }
        check(&region, "single pages");
        region.commit(650 * page..800 * page).unwrap();
        check(&region, "a commit over them");
        assert!(region.fill(900 * page..1200 * page, 1).is_err());
        assert_eq!(region.committed(), region.stats().limit);
        check(&region, "at the limit");
        region.decommit(620 * page..1000 * page).unwrap();
        check(&region, "after a decommit");
        region.zero(..).unwrap();
        check(&region, "zeroed");
        region.decommit(..).unwrap();
        check(&region, "after all was decommitted");
    }
}

/// In a range with committed pages in its middle, the system grants the pages before them and refuses those behind.
#[test]
#[cfg(target_os = "linux")]
fn a_refused_commit_leaves_rights_charge_and_accounts_as_they_were() {
    const NAME: &str = "a_refused_commit_leaves_rights_charge_and_accounts_as_they_were";
    if common::emulated() || common::sanitized() {
        return common::not_here(
            "what the system refuses (the emulator's or the sanitizer's memory would count)",
        );
    }
    in_a_process(NAME, || {
        let page = page_size();
        let budget = pagewise::Budget::new(4000 * page);
        let memory = Reservation::builder(2000 * page).guard_pages(1).budget(budget.clone());
        let memory = memory.build().unwrap();
        memory.commit(100 * page..110 * page).unwrap();
        // SAFETY: these pages are committed.
        unsafe { at(&memory, 100).write_bytes(7, 10 * page) };
        let region = DemandRegion::builder(2000 * page).guard_pages(1).budget(budget.clone());
        let region = region.engine(pagewise::Engine::Protect).build().unwrap();
        region.commit(100 * page..110 * page).unwrap();
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with("VmData:")).unwrap();
        let data = line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10;
        // Limited only during the call, since a failing assertion needs memory for its message.
        let limited = |ask: &dyn Fn() -> Result<(), pagewise::Error>| {
            let set = |bytes: u64| {
                let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
                // SAFETY: a complete limit.
                assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }, 0);
            };
            set((data + 300 * page) as u64);
            let result = ask();
            set(libc::RLIM_INFINITY);
            result
        };
        let charge = |start: *const u8| common::counted(start, 2000 * page).unwrap().charged;

        for _ in 0..3 {
            limited(&|| memory.commit(..)).unwrap_err();
            let accessible: Vec<_> =
                (0..2000).filter(|&index| rights(at(&memory, index)) != NONE).collect();
            assert!(accessible.iter().copied().eq(100..110), "{accessible:?}");
            assert_eq!((memory.committed(), budget.used()), (10 * page, 20 * page));
            assert_eq!(charge(memory.as_ptr()), 10 * page);
        }
        assert!((100..110).all(|index| peek(at(&memory, index)) == 7));
        // The pages before can be committed alone, and read zero.
        limited(&|| memory.commit(..100 * page)).unwrap();
        assert!((0..100).all(|index| peek(at(&memory, index)) == 0));
        memory.decommit(..100 * page).unwrap();

        // A region keeps every page that was granted.
        limited(&|| region.commit(..)).unwrap_err();
        let committed = region.committed() / page;
        assert!((200..=310).contains(&committed), "{committed} pages");
        let page_of = |index: usize| region.as_ptr().wrapping_add(index * page);
        assert!((0..committed).all(|index| rights(page_of(index)) == BOTH));
        assert!((committed..2000).all(|index| rights(page_of(index)) == NONE));
        assert_eq!(charge(region.as_ptr()), committed * page);
        assert_eq!(budget.used(), (10 + committed) * page);
        assert_eq!(region.stats().peak, committed * page);
        drop((memory, region));
        assert_eq!(budget.used(), 0);
    })
    .well();
}

/// Maps accessible memory at an address, if nothing is mapped there: then the caller finds accessible memory where it
/// must not be.
fn occupy(page: *mut u8) {
    // SAFETY: without MAP_FIXED, nothing that is there is replaced.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(page.cast(), page_size(), access, flags, -1, 0);
    }
}

#[test]
fn guard_pages_belong_to_nobody_else_and_cannot_be_touched() {
    fn check(what: &str, start: *mut u8, len: usize, guards: usize) {
        for guard in 1..=guards {
            for page in [
                start.wrapping_sub(guard * page_size()),
                start.wrapping_add(len + (guard - 1) * page_size()),
            ] {
                occupy(page);
                assert_eq!(rights(page), NONE, "{what}: the first byte of guard page {guard}");
                let last = page.wrapping_add(page_size() - 1);
                assert_eq!(rights(last), NONE, "{what}: the last byte of guard page {guard}");
            }
        }
    }
    in_a_process("guard_pages_belong_to_nobody_else_and_cannot_be_touched", || {
        let page = page_size();
        for guards in [1, 3] {
            for align in [1, 1 << 16, 1 << 22] {
                let builder = Reservation::builder(5 * page).guard_pages(guards).align(align);
                let memory = builder.build().unwrap();
                check("reserved", memory.as_ptr(), 5 * page, guards);
                memory.commit(..).unwrap();
                check("committed", memory.as_ptr(), 5 * page, guards);
                assert_eq!(rights_of(&memory), [BOTH; 5]);
            }
            for engine in common::engines() {
                let builder = DemandRegion::builder(600 * page).engine(engine).guard_pages(guards);
                let mut region = builder.build().unwrap();
                check("a region", region.as_ptr(), region.len(), guards);
                region.fill(.., 1).unwrap();
                check("a full region", region.as_ptr(), region.len(), guards);
                region.decommit(..).unwrap();
                check("an emptied region", region.as_ptr(), region.len(), guards);
            }
            let len = 32 * page;
            let mut vec = PageVec::<u8>::builder(len).guard_pages(guards).build().unwrap();
            vec.resize(len, 1);
            check("PageVec", vec.as_mut_ptr(), len, guards);
            vec.clear();
            vec.shrink_to_fit();
            check("PageVec, empty", vec.as_mut_ptr(), len, guards);
            let shared = ConcurrentVec::<u8>::builder(len).guard_pages(guards).build().unwrap();
            shared.try_extend_from_slice(&vec![1; len]).unwrap();
            check("ConcurrentVec", shared.as_slice().as_ptr().cast_mut(), len, guards);
            let arena = Arena::builder(len).guard_pages(guards).build().unwrap();
            let all = arena.alloc_slice_fill_with(len, |_| 1u8).as_mut_ptr();
            check("Arena", all, len, guards);
            #[cfg(feature = "zerocopy")]
            {
                let builder = pagewise::DemandArray::<u8>::builder(len).guard_pages(guards);
                let mut array = builder.build().unwrap();
                array.fill(1);
                check("DemandArray", array.as_mut_ptr(), len, guards);
            }
        }
    })
    .well();
}

/// Printed by the child just before the access that must end it.
fn so_far() {
    println!("so far");
    std::io::stdout().flush().unwrap();
}

fn committed(access: Access) -> Reservation {
    let memory = Reservation::builder(4 * page_size()).guard_pages(1).build().unwrap();
    memory.commit(..3 * page_size()).unwrap();
    // SAFETY: these pages are committed.
    unsafe { memory.as_ptr().write_bytes(1, 3 * page_size()) };
    memory.protect(page_size()..2 * page_size(), access).unwrap();
    for page in [0, 2] {
        poke(at(&memory, page), 2);
        assert_eq!(peek(at(&memory, page)), 2);
    }
    memory
}

#[test]
fn who_touches_what_must_not_be_touched_dies_of_it() {
    const CASES: &[(&str, fn())] = &[
        ("writing to a page that can be read", || {
            let memory = committed(Access::Read);
            assert_eq!(peek(at(&memory, 1)), 1);
            so_far();
            poke(at(&memory, 1), 3);
        }),
        ("writing to code", || {
            let memory = committed(Access::ReadExecute);
            assert_eq!(peek(at(&memory, 1)), 1);
            so_far();
            poke(at(&memory, 1), 3);
        }),
        ("reading a page without access", || {
            let memory = committed(Access::None);
            so_far();
            std::hint::black_box(peek(at(&memory, 1)));
        }),
        ("writing to a page without access", || {
            let memory = committed(Access::None);
            so_far();
            poke(at(&memory, 1).wrapping_add(page_size() - 1), 3);
        }),
        ("reading a reserved page", || {
            let memory = committed(Access::ReadWrite);
            so_far();
            std::hint::black_box(peek(at(&memory, 3)));
        }),
        ("writing to a page that was decommitted", || {
            let memory = committed(Access::ReadWrite);
            memory.decommit(page_size()..2 * page_size()).unwrap();
            so_far();
            poke(at(&memory, 1), 3);
        }),
        ("executing data", || {
            let memory = committed(Access::ReadWrite);
            so_far();
            // SAFETY: none: this jumps to memory that must not run, and ends the process.
            let data: extern "C" fn() = unsafe { std::mem::transmute(at(&memory, 1)) };
            data();
        }),
        ("the page before the first", || {
            let memory = committed(Access::ReadWrite);
            occupy(memory.as_ptr().wrapping_sub(page_size()));
            so_far();
            poke(memory.as_ptr().wrapping_sub(1), 3);
        }),
        ("the page behind the last", || {
            let memory = committed(Access::ReadWrite);
            memory.commit(..).unwrap();
            occupy(at(&memory, 4));
            poke(at(&memory, 4).wrapping_sub(1), 3);
            so_far();
            std::hint::black_box(peek(at(&memory, 4)));
        }),
        ("the page before a region's first", || {
            let region = DemandRegion::builder(page_size()).guard_pages(1).build().unwrap();
            occupy(region.as_ptr().wrapping_sub(page_size()));
            poke(region.as_ptr(), 3);
            so_far();
            std::hint::black_box(peek(region.as_ptr().wrapping_sub(page_size())));
        }),
        ("the page behind a region's last", || {
            let region = DemandRegion::builder(page_size()).guard_pages(1).build().unwrap();
            occupy(region.as_ptr().wrapping_add(page_size()));
            poke(region.as_ptr().wrapping_add(page_size() - 1), 3);
            so_far();
            poke(region.as_ptr().wrapping_add(page_size()), 3);
        }),
        ("memory that was released", || {
            let memory = committed(Access::ReadWrite);
            let start = memory.as_ptr();
            memory.release().unwrap();
            so_far();
            poke(start, 3);
        }),
    ];
    let name = "who_touches_what_must_not_be_touched_dies_of_it";
    each_in_a_process(name, CASES, |case, ended| {
        eprintln!("{case}");
        assert!(ended.stdout.contains("so far"), "{case}: {ended:#?}");
        ended.by_access_violation();
        assert_eq!(ended.diagnostics(), [""; 0]);
    });
}

/// A program may change access rights without this library, as garbage collectors do. Zeroing holds the pages, so a
/// fault on them would wait for ever.
#[test]
fn zeroing_does_not_mind_rights_that_were_changed_past_this_library() {
    for engine in common::engines() {
        let mut region = DemandRegion::builder(4 * page_size()).engine(engine).build().unwrap();
        region.fill(.., 7).unwrap();
        // SAFETY: a page of the region; only its rights change.
        let changed = unsafe {
            libc::mprotect(region.as_ptr().add(page_size()).cast(), page_size(), libc::PROT_READ)
        };
        assert_eq!(changed, 0);
        region.zero(page_size() + 10..page_size() + 20).unwrap();
        let expected = |at: usize| if (10..20).contains(&at) { 0 } else { 7 };
        let page = &region.as_slice()[page_size()..2 * page_size()];
        assert!(page.iter().enumerate().all(|(at, &byte)| byte == expected(at)), "{engine:?}");
        // SAFETY: as above.
        let changed =
            unsafe { libc::mprotect(region.as_ptr().cast(), 4 * page_size(), libc::PROT_READ) };
        assert_eq!(changed, 0);
        region.zero(..).unwrap();
        assert!(region.as_slice().iter().all(|&byte| byte == 0), "{engine:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn code_runs_where_execution_was_allowed() {
    in_a_process("code_runs_where_execution_was_allowed", || {
        let memory = Reservation::new(page_size()).unwrap();
        memory.commit(..).unwrap();
        // mov eax, 42; ret
        let code = [0xb8, 42, 0, 0, 0, 0xc3];
        // SAFETY: the page is committed; what runs is the function that was written there.
        unsafe {
            memory.as_ptr().copy_from_nonoverlapping(code.as_ptr(), code.len());
            memory.protect(.., Access::ReadExecute).unwrap();
            let function: extern "C" fn() -> u32 = std::mem::transmute(memory.as_ptr());
            assert_eq!(function(), 42);
        }
    })
    .well();
}
