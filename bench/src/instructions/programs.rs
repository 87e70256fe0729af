//! What is counted: small programs that do one thing a given number of times.

use std::alloc::Layout;
use std::hint::black_box;

use pagewise::{Arena, CommitStep, ConcurrentVec, DemandRegion, Engine, PageVec, Reservation};

pub struct Program {
    pub name: &'static str,
    pub what: &'static str,
    /// Of the shorter of two runs.
    pub count: usize,
    /// Does it so often.
    pub run: fn(usize) -> Result<(), String>,
}

const fn program(
    name: &'static str,
    count: usize,
    what: &'static str,
    run: fn(usize) -> Result<(), String>,
) -> Program {
    Program { name, what, count, run }
}

/// Operations of which a few nanoseconds each are done in thousands; those that enter the kernel in hundreds.
const FAST: usize = 200_000;
const SLOW: usize = 500;

pub const EMPTY: Program = program("empty", FAST, "the loop around nothing", empty);

pub const PROGRAMS: &[Program] = &[
    EMPTY,
    program("push", FAST, "PageVec::push into committed memory", push),
    program("vec-push", FAST, "Vec::push with capacity (for comparison)", vec_push),
    program("concurrent-push", FAST, "ConcurrentVec::push into committed memory", concurrent_push),
    program("arena", FAST, "Arena::alloc of 16 bytes in committed memory", arena),
    program("bump", FAST, "bumpalo's alloc of 16 bytes, resident (for comparison)", bump),
    program("commit", SLOW, "commit of 64 KiB of a reservation", commit),
    program("commit-decommit", SLOW, "commit and decommit of 64 KiB", commit_decommit),
    program(
        "fault-protect",
        SLOW,
        "a fault of one page, user space, Engine::Protect",
        fault_protect,
    ),
    program("fault-guard", SLOW, "a fault of one page, user space, default engine", fault_guard),
    program("refused", SLOW, "an access that is refused, by attempt", refused),
    program("attempt", FAST, "an attempt that is not refused", attempt),
    program("reserve", SLOW, "reserve and release", reserve),
];

/// Does something for each number; the number passes through memory, so that no loop is combined with its neighbours.
fn times(count: usize, mut work: impl FnMut(u64)) -> Result<(), String> {
    for index in 0..count as u64 {
        work(black_box(index));
    }
    Ok(())
}

fn empty(count: usize) -> Result<(), String> {
    times(count, |index| _ = black_box(index))
}

/// Elements of arrays that are filled again and again.
const ELEMENTS: usize = 1 << 14;

fn push(count: usize) -> Result<(), String> {
    let mut array = PageVec::builder(ELEMENTS).keep_committed(true).build().map_err(said)?;
    times(count, |index| {
        if array.len() == ELEMENTS {
            array.clear();
        }
        array.push(index);
    })
}

fn vec_push(count: usize) -> Result<(), String> {
    let mut array = Vec::with_capacity(ELEMENTS);
    times(count, |index| {
        if array.len() == ELEMENTS {
            array.clear();
        }
        array.push(index);
    })
}

fn concurrent_push(count: usize) -> Result<(), String> {
    let array = ConcurrentVec::new(count).map_err(said)?;
    array.reserve_exact(count);
    times(count, |index| _ = black_box(array.push(index)))
}

fn arena(count: usize) -> Result<(), String> {
    let arena = Arena::new(count * 16).map_err(said)?;
    arena.try_reserve(count * 16).map_err(said)?;
    times(count, |index| _ = black_box(arena.alloc([index, index])))
}

fn bump(count: usize) -> Result<(), String> {
    let mut bump = bumpalo::Bump::with_capacity(count * 16);
    black_box(bump.alloc_layout(Layout::new::<u64>()));
    bump.reset();
    times(count, |index| _ = black_box(bump.alloc([index, index])))
}

const BLOCK: usize = 64 << 10;

fn commit(count: usize) -> Result<(), String> {
    let pool = Reservation::new(count * BLOCK).map_err(said)?;
    times(count, |index| {
        let start = index as usize * BLOCK;
        pool.commit(start..start + BLOCK).expect("there is no limit");
    })
}

fn commit_decommit(count: usize) -> Result<(), String> {
    let pool = Reservation::new(BLOCK).map_err(said)?;
    times(count, |_| {
        pool.commit(..).expect("there is no limit");
        pool.decommit(..).expect("it is committed");
    })
}

fn fault_protect(count: usize) -> Result<(), String> {
    faults(count, Engine::Protect)
}

fn fault_guard(count: usize) -> Result<(), String> {
    faults(count, Engine::Auto)
}

/// Touches every other page, so that no step reaches the next one.
fn faults(count: usize, engine: Engine) -> Result<(), String> {
    let page = pagewise::page_size();
    let builder = DemandRegion::builder(count * 2 * page).step(CommitStep::page()).engine(engine);
    let mut region = builder.build().map_err(said)?;
    let base = region.as_mut_slice().as_mut_ptr();
    times(count, |index| {
        // SAFETY: inside the region, which has no limit.
        unsafe { base.add(index as usize * 2 * page).write_volatile(1) };
    })?;
    let faults = region.stats().faults as usize;
    if faults == count { Ok(()) } else { Err(format!("{faults} faults instead of {count}")) }
}

fn refused(count: usize) -> Result<(), String> {
    let region = DemandRegion::builder(1 << 20).limit(0).build().map_err(said)?;
    let place = black_box(region.as_ptr());
    times(count, |_| {
        // SAFETY: inside the region; the closure has no destructor.
        let tried = unsafe { pagewise::fault::attempt(|| place.write_volatile(1)) };
        assert!(tried.is_err());
    })
}

fn attempt(count: usize) -> Result<(), String> {
    let region = DemandRegion::new(1 << 20).map_err(said)?;
    let place = black_box(region.as_ptr());
    times(count, |_| {
        // SAFETY: as in `refused`.
        let tried = unsafe { pagewise::fault::attempt(|| place.write_volatile(1)) };
        assert!(tried.is_ok());
    })
}

fn reserve(count: usize) -> Result<(), String> {
    times(count, |_| _ = black_box(Reservation::new(1 << 20)))
}

fn said(error: impl ToString) -> String {
    error.to_string()
}
