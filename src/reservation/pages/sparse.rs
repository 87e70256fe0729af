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
        let check = |what, words: usize| {
            // For each committed page, a page of the table is resident.
            let most = USED * (page / WORD_BYTES);
            assert!(words <= 16 * most, "{engine:?}: {what} looked at {words} words");
            let resident = resident(&memory);
            assert!(resident <= USED * page, "{engine:?}: {resident} bytes after {what}");
        };
        check("a commit", 0);
        let ranges = || assert_eq!(memory.committed_ranges().count(), USED);
        check("committed_ranges", looked_at::words(ranges));
        check("zero", looked_at::words(|| memory.zero(..).unwrap()));
        check("a fork", looked_at::words(|| memory.end_abandoned_changes()));
        assert_eq!(memory.committed(), USED * page);
        check("decommit", looked_at::words(|| memory.decommit(..).unwrap()));
        assert_eq!((memory.committed(), memory.committed_ranges().count()), (0, 0));
    }
}
