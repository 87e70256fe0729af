//! Every error, in a situation that causes it: the numbers that it carries, and its whole message. All numbers of a
//! situation differ, so that swapped ones are found.
#![cfg(not(pagewise_model))]

use crate::common::{self, each_in_a_process};
use pagewise::{
    Access, AccessError, Arena, Budget, CommitStep, DemandRegion, Error, PageVec, RefusalReason,
    Reservation, page_size,
};

/// A number of bytes as messages show it: with at most two decimals, or whole and with a short number behind it.
fn said(bytes: usize) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fitting = || units.iter().filter(|(_, shift)| bytes >= 1 << shift);
    let value = |shift: &i32| bytes as f64 / 2f64.powi(*shift);
    for (unit, shift) in fitting() {
        if (value(shift) * 100.0).fract() == 0.0 && value(shift) < 10_000.0 {
            return format!("{} {unit}", value(shift));
        }
    }
    match fitting().next() {
        Some((unit, shift)) if bytes >= 10_000 => {
            let about = (value(shift) * 100.0).round() / 100.0;
            match bytes % 1024 {
                0 => format!("{} KiB (about {about} {unit})", bytes / 1024),
                _ => format!("{bytes} bytes (about {about} {unit})"),
            }
        }
        _ => format!("{bytes} bytes"),
    }
}

#[track_caller]
fn expect(error: &Error, message: &str) {
    assert_eq!(error.to_string(), message, "{error:?}");
}

#[test]
fn a_limit_says_what_was_wanted_what_is_used_and_what_there_is() {
    let page = page_size();
    let message = |(which, offset, requested, used, limit): Numbers| {
        format!(
            "commit of {} at offset {offset:#x} refused: {which} of {} is used up ({} committed): \
             decommit something, or give a larger {}",
            said(requested),
            said(limit),
            said(used),
            if which == "limit" { "`.limit`" } else { "budget" }
        )
    };
    type Numbers = (&'static str, usize, usize, usize, usize);
    #[track_caller]
    fn numbers(error: &Error) -> Numbers {
        match *error {
            Error::LimitReached { offset, requested, used, limit } => {
                ("limit", offset, requested, used, limit)
            }
            Error::BudgetReached { offset, requested, used, limit } => {
                ("budget", offset, requested, used, limit)
            }
            ref other => panic!("{other:?}"),
        }
    }
    // The reservation's own limit. Of the range, pages 4 and 5 are committed already.
    let memory = Reservation::builder(64 * page).limit(7 * page + 1).build().unwrap();
    memory.commit(4 * page..6 * page).unwrap();
    memory.commit(20 * page..21 * page).unwrap();
    let refused = memory.commit(2 * page + 5..9 * page).unwrap_err();
    let expected = ("limit", 2 * page, 5 * page, 3 * page, 7 * page);
    assert_eq!(numbers(&refused), expected);
    expect(&refused, &message(expected));
    // A budget that another one uses, too, and that is no whole number of pages.
    let budget = Budget::new(9 * page + 100);
    let reserve = || Reservation::builder(64 * page).limit(50 * page).budget(budget.clone());
    let (one, other) = (reserve().build().unwrap(), reserve().build().unwrap());
    one.commit(..2 * page).unwrap();
    other.commit(..4 * page).unwrap();
    let refused = one.commit(page..6 * page).unwrap_err();
    let expected = ("budget", page, 4 * page, 6 * page, 9 * page + 100);
    assert_eq!(numbers(&refused), expected);
    expect(&refused, &message(expected));
    assert_eq!((budget.used(), budget.peak(), one.peak()), (6 * page, 6 * page, 2 * page));
    // A region's explicit commit, and containers.
    let region = DemandRegion::builder(64 * page).limit(6 * page).build().unwrap();
    region.commit(3 * page..5 * page).unwrap();
    let refused = region.commit(4 * page..12 * page).unwrap_err();
    assert_eq!(numbers(&refused), ("limit", 4 * page, 7 * page, 2 * page, 6 * page));
    let mut vec = PageVec::<u8>::builder(64 * page).limit(5 * page).build().unwrap();
    vec.try_reserve_exact(2 * page).unwrap();
    let refused = vec.try_reserve_exact(9 * page).unwrap_err();
    assert_eq!(numbers(&refused), ("limit", 2 * page, 7 * page, 2 * page, 5 * page));
    let arena = Arena::builder(64 * page).limit(3 * page).build().unwrap();
    arena.alloc_slice_uninit::<u8>(2 * page);
    let refused = arena.try_alloc_slice_uninit::<u8>(4 * page).unwrap_err();
    let (which, _, _, used, limit) = numbers(&refused);
    assert_eq!((which, used, limit), ("limit", arena.committed(), 3 * page));
}

#[test]
fn bad_input_comes_back_as_it_was_given() {
    let page = page_size();
    let memory = Reservation::new(4 * page).unwrap();
    let reversed = std::ops::Range { start: 9, end: 3 };
    expect(
        &memory.commit(reversed).unwrap_err(),
        "range 0x9..0x3 is reversed: its start lies after its end",
    );
    let outside = memory.commit(5..4 * page + 7).unwrap_err();
    let numbers = (5, 4 * page + 7, 4 * page);
    assert!(
        matches!(outside, Error::OutOfBounds { start, end, len } if (start, end, len) == numbers)
    );
    let text = format!(
        "range 0x5..{:#x} is out of bounds: the length is {:#x} bytes",
        numbers.1, numbers.2
    );
    expect(&outside, &text);
    memory.commit(..2 * page).unwrap();
    for (operation, result) in [
        ("protect", memory.protect(page + 9..3 * page, Access::Read)),
        ("prefault", memory.prefault(page + 9..3 * page)),
        ("lock", memory.lock(page + 9..3 * page)),
        ("unlock", memory.unlock(page + 9..3 * page)),
    ] {
        let text = format!(
            "{operation} at offset {:#x} needs a committed page: commit it first",
            2 * page
        );
        expect(&result.unwrap_err(), &text);
    }
    expect(&Reservation::new(0).unwrap_err(), "a length of zero bytes cannot be reserved");
    expect(
        &Reservation::new(isize::MAX as usize + 5).unwrap_err(),
        &format!(
            "{:#x} bytes overflow the address arithmetic (at most isize::MAX)",
            isize::MAX as usize + 5
        ),
    );
    expect(
        &Reservation::builder(1).align(24).build().unwrap_err(),
        "alignment 0x18 is not a power of two",
    );
    let mut vec = PageVec::try_from_iter(5, [1, 2, 3]).unwrap();
    let full = vec.try_extend_from_slice(&[4; 7]).unwrap_err();
    assert!(matches!(full, Error::Full { len: 3, additional: 7, max_len: 5 }), "{full:?}");
    let one = PageVec::try_from_iter(3, [1, 2, 3]).unwrap().try_push(4).unwrap_err();
    let text = "1 more element does not fit: 3 of at most 3 are there: give a larger maximum length, or \
                remove something";
    expect(one.error(), text);
    expect(
        &full,
        "7 more elements do not fit: 3 of at most 5 are there: give a larger maximum length, or \
         remove something",
    );
}

#[test]
fn a_refused_copy_says_how_far_it_came_where_it_stopped_and_why() {
    let page = page_size();
    for engine in common::engines() {
        let budget = Budget::new(5 * page + 100);
        let builder = DemandRegion::builder(64 * page).engine(engine).budget(budget);
        let mut region = builder.limit(9 * page).step(CommitStep::page()).build().unwrap();
        region.commit(40 * page..42 * page).unwrap();
        let limit = 5 * page + 100;
        let check = |error: AccessError, copied: usize, offset: usize| {
            assert_eq!((error.copied, error.refusal.offset), (copied, offset), "{engine:?}");
            let used = 5 * page;
            assert_eq!(error.refusal.reason, RefusalReason::Budget { used, limit });
            let refused = format!(
                "page at offset {offset:#x} refused: budget of {} is used up ({} committed): decommit \
                 something, or give a larger budget",
                said(limit),
                said(used)
            );
            assert_eq!(error.refusal.to_string(), refused);
            assert_eq!(error.to_string(), format!("refused after {copied} bytes: {refused}"));
        };
        let builder = DemandRegion::builder(64 * page).engine(engine).limit(2 * page + 1);
        let own = builder.step(CommitStep::page()).build().unwrap().fill(.., 1).unwrap_err();
        let reason = RefusalReason::Limit { used: 2 * page, limit: 2 * page };
        assert_eq!((own.copied, own.refusal.reason), (2 * page, reason));
        let text = format!(
            "page at offset {:#x} refused: limit of {} is used up ({} committed): decommit something, or \
             give a larger `.limit`",
            2 * page,
            said(2 * page),
            said(2 * page)
        );
        assert_eq!(own.refusal.to_string(), text);
        check(region.fill(7 * page + 3.., 1).unwrap_err(), 3 * page - 3, 10 * page);
        check(region.write(9 * page - 2, &vec![1; 2 * page]).unwrap_err(), page + 2, 10 * page);
        check(region.read(50 * page + 9, &mut [0; 4]).unwrap_err(), 0, 50 * page + 9);
        let outside = region.read(60 * page, &mut vec![0; 5 * page]).unwrap_err();
        assert!(matches!(outside.refusal.reason, RefusalReason::NotReserved));
        let text = format!(
            "refused after 0 bytes: the range reaches beyond the region, which ends at offset {:#x}",
            64 * page
        );
        assert_eq!((outside.to_string(), outside.copied), (text, 0));
        // As an error of `io`, with the refusal of the commit in it.
        let refused = region.read_from(50 * page.., &mut std::io::repeat(1)).unwrap_err();
        let inner = refused.get_ref().unwrap().downcast_ref::<Error>().unwrap();
        let Error::BudgetReached { offset, requested, used, limit: told } = *inner else {
            panic!("{inner:?}")
        };
        assert_eq!((offset, requested, used, told), (50 * page, page, 5 * page, limit));
    }
}

#[test]
fn the_line_about_a_refused_plain_access_has_its_numbers() {
    const NAME: &str = "the_line_about_a_refused_plain_access_has_its_numbers";
    /// Prints the region's address, for the parent.
    fn build(engine: pagewise::Engine) -> DemandRegion {
        let page = page_size();
        let budget = Budget::new(3 * page + 100);
        let builder = DemandRegion::builder(64 * page).engine(engine).budget(budget);
        let region = builder.limit(9 * page).step(CommitStep::page()).build().unwrap();
        println!("region: {:#x}", region.as_ptr().addr());
        region.commit(40 * page..42 * page).unwrap();
        common::poke(region.as_ptr().wrapping_add(5 * page), 1);
        region
    }
    fn refused(region: &DemandRegion) -> *mut u8 {
        region.as_ptr().wrapping_add(17 * page_size() + 0x123)
    }
    const CASES: &[(&str, fn())] = &[
        ("a write", || {
            for engine in common::engines() {
                // The child dies at the last one, so its line is the last.
                if engine == pagewise::Engine::Protect {
                    common::poke(refused(&build(engine)), 1);
                }
            }
        }),
        ("a read", || {
            std::hint::black_box(common::peek(refused(&build(pagewise::Engine::Auto))));
        }),
    ];
    each_in_a_process(NAME, CASES, |case, ended| {
        ended.by_access_violation();
        let region =
            ended.stdout.lines().filter_map(|line| line.split_once("region: ")).next_back();
        let region = region.unwrap_or_else(|| panic!("{ended:#?}")).1;
        let page = page_size();
        let line = format!(
            "pagewise: refused an access at offset {:#x} of the region at {region}: budget of {} bytes \
             reached ({} committed); give a larger budget, decommit, or use read/write/fill, which \
             return the refusal as an error",
            17 * page + 0x123,
            3 * page + 100,
            3 * page
        );
        assert_eq!(ended.diagnostics(), [&line], "{case}");
    });
}

/// What the system refuses, by limits on the process that Linux keeps.
#[cfg(target_os = "linux")]
mod the_system {
    use super::*;
    use crate::common::{in_a_process, not_here};

    /// The code of the operating system that is an error's source.
    fn code(error: &(dyn std::error::Error + 'static)) -> i32 {
        let source = error.source().expect("a source").downcast_ref::<std::io::Error>();
        source.expect("the system's own word").raw_os_error().expect("a code")
    }

    fn cannot_be_refused() -> bool {
        let cannot = common::emulated() || common::sanitized();
        if cannot {
            not_here(
                "what the system refuses (the emulator's or the sanitizer's memory would count)",
            );
        }
        cannot
    }

    /// Sets whether more memory may become writable: none from here on, or any amount.
    fn more_data(is_granted: bool) {
        // Linux takes a limit of zero, below a higher maximum, for no limit.
        let most = if is_granted { libc::RLIM_INFINITY } else { 1 };
        let limit = libc::rlimit { rlim_cur: most, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a complete limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }, 0);
    }

    #[test]
    fn a_commit_that_the_system_refuses_says_which_part() {
        if cannot_be_refused() {
            return;
        }
        in_a_process("the_system::a_commit_that_the_system_refuses_says_which_part", || {
            let page = page_size();
            let memory = Reservation::builder(64 * page).limit(40 * page).build().unwrap();
            memory.commit(4 * page..6 * page).unwrap();
            // SAFETY: these pages are committed.
            unsafe { memory.as_ptr().add(4 * page).write_bytes(7, 2 * page) };
            let mut region =
                DemandRegion::builder(64 * page).step(CommitStep::page()).build().unwrap();
            region.write(3 * page, &[1; 8]).unwrap();
            // Lifted at once, since a failing assertion needs memory for its message.
            more_data(false);
            let refused = memory.commit(4 * page + 1..15 * page - 1);
            let filled = region.fill(3 * page + 4..9 * page, 5);
            more_data(true);
            let refused = refused.unwrap_err();
            let Error::CommitRefused { offset, len, .. } = refused else { panic!("{refused:?}") };
            assert_eq!((offset, len, code(&refused)), (6 * page, 9 * page, libc::ENOMEM));
            let text = format!(
                "commit of {} at offset {:#x} refused by the system: free memory, or raise the system's \
                 commit limit (Linux: `vm.overcommit_memory`, `ulimit -d`; Windows: page file)",
                said(9 * page),
                6 * page
            );
            expect(&refused, &text);
            assert_eq!((memory.committed(), memory.peak()), (2 * page, 2 * page));
            // A fault that the system refuses.
            let refused = filled.unwrap_err();
            assert_eq!((refused.copied, refused.refusal.offset), (page - 4, 4 * page));
            let RefusalReason::System(error) = &refused.refusal.reason else { panic!("{refused}") };
            assert_eq!(error.code(), libc::ENOMEM);
            let text = format!(
                "refused after {} bytes: page at offset {:#x} refused by the system: {error}",
                page - 4,
                4 * page
            );
            assert_eq!(refused.to_string(), text);
        })
        .well();
    }

    #[test]
    fn a_plain_access_that_the_system_refuses_says_its_code() {
        if cannot_be_refused() {
            return;
        }
        const NAME: &str = "the_system::a_plain_access_that_the_system_refuses_says_its_code";
        let ended = in_a_process(NAME, || {
            let region = DemandRegion::new(64 * page_size()).unwrap();
            println!("region: {:#x}", region.as_ptr().addr());
            more_data(false);
            common::poke(region.as_ptr().wrapping_add(17 * page_size() + 0x123), 1);
        });
        ended.by_access_violation();
        let region = ended.stdout.lines().find_map(|line| line.split_once("region: ")).unwrap().1;
        let line = format!(
            "pagewise: refused an access at offset {:#x} of the region at {region}: the system refused \
             the memory (error {}); free memory, or use read/write/fill, which return the refusal as an \
             error",
            17 * page_size() + 0x123,
            libc::ENOMEM
        );
        assert_eq!(ended.diagnostics(), [&line]);
    }

    #[test]
    fn addresses_that_do_not_fit_are_counted_with_guard_pages() {
        if common::emulated() || common::sanitized() {
            return not_here("RLIMIT_AS: the emulator's or the sanitizer's addresses would count");
        }
        in_a_process("the_system::addresses_that_do_not_fit_are_counted_with_guard_pages", || {
            let page = page_size();
            let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: a complete limit.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
            let refused = Reservation::builder(8 << 30).guard_pages(3).build().unwrap_err();
            let Error::AddressSpaceExhausted { requested, .. } = refused else {
                panic!("{refused:?}")
            };
            assert_eq!((requested, code(&refused)), ((8 << 30) + 6 * page, libc::ENOMEM));
            let text = format!(
                "cannot reserve {} of address space: ask for less, or use `.at_least(min)` (limits: \
                 `ulimit -v`, the machine's address bits)",
                said((8 << 30) + 6 * page)
            );
            expect(&refused, &text);
            let halved = Reservation::builder(8 << 30).at_least(1 << 30).build().unwrap();
            assert!(matches!(halved.len(), 0x4000_0000 | 0x8000_0000), "{:#x}", halved.len());
        })
        .well();
    }

    /// Takes every privilege from this process, so that all limits hold for it.
    fn without_privileges() {
        #[repr(C)]
        struct Header {
            version: u32,
            process: i32,
        }
        let header = Header { version: 0x2008_0522, process: 0 };
        // SAFETY: the structures are as `capset` of version 3 has them: two times three words.
        let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &[0u32; 6]) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    #[test]
    fn a_lock_beyond_the_limit_says_how_much() {
        if common::emulated() {
            return not_here("what may be locked: the limit is the emulator's");
        }
        in_a_process("the_system::a_lock_beyond_the_limit_says_how_much", || {
            let page = page_size();
            let memory = Reservation::new(64 * page).unwrap();
            memory.commit(..).unwrap();
            without_privileges();
            for pages in [3, 0] {
                let limit = libc::rlimit {
                    rlim_cur: (pages * page) as u64,
                    rlim_max: (pages * page) as u64,
                };
                // SAFETY: a complete limit.
                assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
                let refused = memory.lock(5 * page + 1..14 * page).unwrap_err();
                let Error::Locked { operation, len, .. } = refused else { panic!("{refused:?}") };
                assert_eq!((operation, len), ("lock", 9 * page));
                assert_eq!(code(&refused), if pages == 0 { libc::EPERM } else { libc::ENOMEM });
                let text = format!(
                    "lock of {} refused: locked memory is limited or in the way (`ulimit -l`, \
                     `mlockall`)",
                    said(9 * page)
                );
                expect(&refused, &text);
                if pages > 0 {
                    memory.lock(..3 * page).unwrap();
                    memory.unlock(..3 * page).unwrap();
                }
            }
        })
        .well();
    }

    /// Where new memory is locked, reserving counts against the limit, too.
    #[test]
    fn a_reservation_beyond_what_may_be_locked_says_how_much() {
        if common::emulated() || common::sanitized() {
            return not_here("what may be locked: the limit is the emulator's or the sanitizer's");
        }
        const NAME: &str = "the_system::a_reservation_beyond_what_may_be_locked_says_how_much";
        in_a_process(NAME, || {
            let (page, most) = (page_size(), 4 << 20);
            without_privileges();
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            // SAFETY: a complete limit, and a plain call.
            unsafe {
                assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit), 0);
                assert_eq!(libc::mlockall(libc::MCL_FUTURE), 0);
            }
            let refused = Reservation::builder(64 << 20).guard_pages(3).build().unwrap_err();
            let Error::Locked { operation, len, .. } = refused else { panic!("{refused:?}") };
            assert_eq!((operation, len), ("reserve", (64 << 20) + 6 * page));
            assert_eq!(code(&refused), libc::EAGAIN);
            let text = format!(
                "reserve of {} refused: locked memory is limited or in the way (`ulimit -l`, `mlockall`)",
                said((64 << 20) + 6 * page)
            );
            expect(&refused, &text);
        })
        .well();
    }

    #[test]
    fn what_the_system_forbids_says_the_operation_and_the_systems_own_word() {
        const PR_SET_MDWE: libc::c_int = 65;
        const NAME: &str =
            "the_system::what_the_system_forbids_says_the_operation_and_the_systems_own_word";
        in_a_process(NAME, || {
            let memory = Reservation::new(4 * page_size()).unwrap();
            memory.commit(..).unwrap();
            // From now on, memory that is not executable stays so.
            // SAFETY: a plain call, about this process alone.
            if unsafe { libc::prctl(PR_SET_MDWE, 1usize, 0usize, 0usize, 0usize) } != 0 {
                return not_here(
                    "a process that may make no memory executable: it needs Linux 6.3",
                );
            }
            let refused = memory.protect(..page_size(), Access::ReadExecute).unwrap_err();
            let Error::System { operation, .. } = refused else { panic!("{refused:?}") };
            assert_eq!((operation, code(&refused)), ("protect", libc::EACCES));
            let source = std::io::Error::from_raw_os_error(libc::EACCES);
            expect(&refused, &format!("protect failed: {source}"));
            // Nothing was changed.
            common::poke(memory.as_ptr(), 1);
        })
        .well();
    }

    fn most_mappings() -> Option<usize> {
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
        text.trim().parse().ok().filter(|&most| most <= 1 << 20)
    }

    fn mappings_cannot_run_out() -> bool {
        let cannot = common::emulated() || common::sanitized() || most_mappings().is_none();
        if cannot {
            not_here(
                "mappings that run out: they are the emulator's, the sanitizer's, or too many",
            );
        }
        cannot
    }

    /// Makes mappings until the process has none left, as a program might. They are never given back.
    fn use_up_the_mappings() {
        let (page, most) = (page_size(), most_mappings().unwrap());
        // SAFETY: a new mapping, of which every other page gets other rights.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let start = libc::mmap(std::ptr::null_mut(), 2 * most * page, 0, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            for index in 0..most {
                let at = start.byte_add((2 * index + 1) * page);
                if libc::mprotect(at, page, libc::PROT_READ) != 0 {
                    return;
                }
            }
        }
        panic!("{most} mappings were no limit");
    }

    /// Counts the mappings without allocating, which could need a mapping.
    fn mappings() -> usize {
        use std::io::Read;
        let mut file = std::fs::File::open("/proc/self/maps").unwrap();
        let (mut buffer, mut count) = ([0; 4096], 0);
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => return count,
                len => count += buffer[..len].iter().filter(|&&byte| byte == b'\n').count(),
            }
        }
    }

    fn without_mappings(operation: &str, mappings: usize) -> String {
        format!(
            "{operation} refused: the process has {mappings} of at most {} memory mappings: commit \
             larger neighbouring ranges, or raise `vm.max_map_count`",
            most_mappings().unwrap()
        )
    }

    #[test]
    fn mappings_that_run_out_are_counted_in_every_error() {
        if mappings_cannot_run_out() {
            return;
        }
        in_a_process("the_system::mappings_that_run_out_are_counted_in_every_error", || {
            let page = page_size();
            let memory = Reservation::builder(64 * page).guard_pages(1).build().unwrap();
            memory.commit(..32 * page).unwrap();
            let builder = DemandRegion::builder(64 * page).engine(pagewise::Engine::Protect);
            let mut region = builder.guard_pages(1).step(CommitStep::page()).build().unwrap();
            let most = most_mappings().unwrap();
            use_up_the_mappings();
            // The error counts mappings after the refusal, and so does the test.
            let check = |expected: &str, result: Result<(), Error>| {
                let (error, count) = (result.unwrap_err(), mappings());
                let Error::MappingsExhausted { operation, mappings, max, .. } = error else {
                    panic!("{expected}: {error:?}")
                };
                assert_eq!((operation, mappings, max), (expected, count, most));
                assert!((most - 2..most + 10).contains(&count), "{count} of {most}");
                assert_eq!(code(&error), libc::ENOMEM);
                expect(&error, &without_mappings(expected, count));
            };
            let tenth = 10 * page..11 * page;
            check("commit", memory.commit(40 * page..41 * page));
            check("decommit", memory.decommit(tenth.clone()));
            check("protect", memory.protect(tenth.clone(), Access::Read));
            check("lock", memory.lock(tenth));
            check("commit", region.commit(9 * page..10 * page));
            let access = region.write(7 * page, &[1]).unwrap_err();
            let RefusalReason::Mappings { mappings: told, max, error } = access.refusal.reason else {
                panic!("{access:?}")
            };
            assert_eq!((told, max, error.code()), (mappings(), most, libc::ENOMEM));
            let text = format!(
                "refused after 0 bytes: page at offset {:#x} refused: the process has {told} of at most \
                 {most} memory mappings: touch neighbouring pages, or raise `vm.max_map_count`",
                7 * page
            );
            assert_eq!(access.to_string(), text);
            // A private mapping may merge with its neighbour; a shared one never does.
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            // SAFETY: new mappings, which nobody uses.
            while unsafe { libc::mmap(std::ptr::null_mut(), page, 0, flags, -1, 0) }
                != libc::MAP_FAILED
            {}
            check("reserve", Reservation::new(1 << 20).map(drop));
            assert_eq!((access.copied, access.refusal.offset), (0, 7 * page));
            assert_eq!((memory.committed(), region.committed()), (32 * page, 0));
        })
        .well();
    }

    #[test]
    fn the_line_about_a_plain_access_without_mappings_counts_them() {
        if mappings_cannot_run_out() {
            return;
        }
        const NAME: &str = "the_system::the_line_about_a_plain_access_without_mappings_counts_them";
        let ended = in_a_process(NAME, || {
            let builder = DemandRegion::builder(64 * page_size()).guard_pages(1);
            let region = builder.engine(pagewise::Engine::Protect).build().unwrap();
            println!("region: {:#x}", region.as_ptr().addr());
            use_up_the_mappings();
            // (A refused change may have cut a mapping in two before it was refused.)
            region.commit(30 * page_size()..31 * page_size()).unwrap_err();
            println!("mappings: {}", mappings());
            common::poke(region.as_ptr().wrapping_add(17 * page_size() + 0x123), 1);
        });
        ended.by_access_violation();
        let number = |name: &str| {
            let mut lines = ended.stdout.lines();
            lines.find_map(|line| line.split_once(name)).unwrap_or_else(|| panic!("{ended:#?}")).1
        };
        let line = format!(
            "pagewise: refused an access at offset {:#x} of the region at {}: the process has {} of at \
             most {} memory mappings; raise vm.max_map_count, touch neighbouring pages, or use \
             read/write/fill, which return the refusal as an error",
            17 * page_size() + 0x123,
            number("region: "),
            number("mappings: "),
            most_mappings().unwrap()
        );
        assert_eq!(ended.diagnostics(), [&line]);
    }
}
