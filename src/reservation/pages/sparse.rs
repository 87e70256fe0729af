//! How much of the page states operations on all of a long, sparse reservation look at, and make resident.

use super::table::WORD_BYTES;
use super::*;
use crate::os;
use crate::{Engine, Error, Reservation};

const USED: usize = 256;

/// Sixteen terabytes, with committed pages 4 GiB apart. (Where pages are not 4 KiB, as many pages.)
fn reservation(engine: Engine) -> Option<Reservation> {
    let page = os::page_size();
    // An emulator uses memory of its own for every page that is reserved.
    if std::env::var_os("PAGEWISE_TEST_RUNNER").is_some() {
        crate::not_here::not_here("sixteen terabytes of addresses");
        return None;
    }
    let memory = match Reservation::builder(page << 32).engine(engine).build() {
        Err(Error::AddressSpaceExhausted { .. }) => {
            crate::not_here::not_here("sixteen terabytes of addresses");
            return None;
        }
        other => other.unwrap(),
    };
    for nth in 0..USED {
        memory.commit(nth * (page << 20)..nth * (page << 20) + 1).unwrap();
    }
    Some(memory)
}

fn engines() -> impl Iterator<Item = Engine> {
    let guard = os::guards_work().then_some(Engine::Guard);
    [Engine::Protect].into_iter().chain(guard)
}

/// Bytes of the table that are in memory.
fn resident(memory: &Reservation) -> usize {
    let Table::Large(table) = &memory.states().table else { panic!("a small table") };
    let mut resident = 0;
    let mut add = |_, len, seen: os::Residency| resident += if seen.resident { len } else { 0 };
    os::residency(table.base().unwrap(), table.bytes(), &mut add).unwrap();
    resident
}

#[test]
fn operations_on_all_of_a_sparse_reservation_visit_what_was_written_and_no_more() {
    if os::commits_strictly() {
        return crate::not_here::not_here("a table that is committed as a whole");
    }
    let page = os::page_size();
    for engine in engines() {
        let Some(memory) = reservation(engine) else { return };
        let check = |what, least, words: usize| {
            // For each committed page, a page of the table is resident, some of them with a neighbour.
            let most = 16 * USED * (page / WORD_BYTES);
            let few = (least..=most).contains(&words);
            assert!(few, "{engine:?}: {what} looked at {words} words");
            let resident = resident(&memory);
            assert!(resident <= USED * page, "{engine:?}: {resident} bytes after {what}");
        };
        check("a commit", 1, looked_at::words(|| memory.commit(..1).unwrap()));
        let ranges = || assert_eq!(memory.committed_ranges().count(), USED);
        check("committed_ranges", USED, looked_at::words(ranges));
        check("zero", USED, looked_at::words(|| memory.zero(..).unwrap()));
        check("a fork", USED, looked_at::words(|| memory.end_abandoned_changes()));
        assert_eq!(memory.committed(), USED * page);
        check("decommit", USED, looked_at::words(|| memory.decommit(..).unwrap()));
        assert_eq!((memory.committed(), memory.committed_ranges().count()), (0, 0));
    }
}

/// Whether the system counts the memory at an address against its commit limit, as far as it is accessible.
#[cfg(target_os = "linux")]
fn is_charged(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_here = false;
    for line in maps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((start, end)) = range {
            let number = |digits| usize::from_str_radix(digits, 16).unwrap();
            is_here = (number(start)..number(end)).contains(&address);
        } else if is_here && let Some(flags) = line.strip_prefix("VmFlags:") {
            return flags.split_whitespace().any(|flag| flag == "ac");
        }
    }
    panic!("no mapping has {address:#x}");
}

/// Charging all of a table would refuse what fits; but a process whose memory is limited must not have all of
/// it counted as its own either.
#[cfg(target_os = "linux")]
#[test]
fn a_table_is_charged_only_where_it_is_committed_piece_by_piece() {
    if std::env::var_os("PAGEWISE_TEST_RUNNER").is_some() {
        let what = "whether a table is charged: the mappings are the emulator's";
        return crate::not_here::not_here(what);
    }
    if os::commits_strictly() {
        return crate::not_here::not_here("a table that is committed as a whole");
    }
    let table_is_charged = || {
        let states = PageStates::new(2 * table::SMALL_WORDS * PAGES_PER_WORD);
        states.lock(PageSize::system().pages(0, 1)).unwrap();
        states.unlock(PageSize::system().pages(0, 1));
        let Table::Large(table) = &states.table else { panic!("a small table") };
        is_charged(table.base().unwrap().as_ptr().addr())
    };
    assert!(!table_is_charged());
    os::assert_in_a_child(|| {
        let limit = libc::rlimit { rlim_cur: 1 << 46, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a complete structure.
        let is_limited = unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) } == 0;
        is_limited && table_is_charged()
    });
}
