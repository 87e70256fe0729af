//! threads: 1 to 16 threads that fault in one region or in regions of their own, or that share a budget.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use pagewise::{Budget, CommitStep, Engine, Reservation};

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::work::{Area, Opened, touch_each_page};
use crate::{ours, rivals};

pub const SUITE: Suite = Suite {
    name: "threads",
    about: "threads that fault, or commit, at the same time",
    cases,
    needs: 256 << 20,
    needs_huge: 0,
};

const THREADS: [usize; 5] = [1, 2, 4, 8, 16];

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = THREADS.into_iter().map(in_one_region).collect();
    cases.extend([2, 4, 16].map(in_own_regions));
    cases.extend([1, 2, 16].map(one_page_each));
    cases.extend([2, 4, 16].map(on_one_budget));
    cases[1] = cases[1].clone().control();
    cases
}

/// All threads together touch so many bytes.
fn bytes(size: Size) -> usize {
    size.pick(256 << 20, 128 << 20, 4 << 20)
}

fn named(threads: usize) -> String {
    if threads == 1 { "1 thread".into() } else { format!("{threads} threads") }
}

fn in_one_region(threads: usize) -> Case {
    let fill = |open: fn(usize) -> Opened| move |size| shared_fill(size, threads, open);
    Case::new(
        format!("{} fill parts of one region", named(threads)),
        "ns/page",
        fill(ours::by_default),
    )
    .rival("kernel demand paging, 4 KiB", fill(rivals::kernel))
    .rival("bare C handler, 64 KiB populated", fill(bare_64_kib))
    .rival("pagewise, Engine::Protect", fill(ours::by_protect))
    .rival("pagewise, Engine::UserFault", fill(ours::by_userfault))
}

fn one_page_each(threads: usize) -> Case {
    let fill = |open: fn(usize) -> Opened| move |size| shared_fill(size, threads, open);
    let name = format!("{} fill parts of one region, one page for each fault", named(threads));
    Case::new(name, "ns/page", fill(ours::by_page))
        .rival("bare C handler, 1 page", fill(rivals::bare_handler))
        .rival("bare C handler, guard marker of 1 page", fill(rivals::bare_guard))
        .rival("kernel demand paging, 4 KiB", fill(rivals::kernel))
        .rival("pagewise, Engine::UserFault", fill(by_page_by_userfault))
}

fn in_own_regions(threads: usize) -> Case {
    let fill = |open: fn(usize) -> Opened| move |size| own_fill(size, threads, open);
    Case::new(format!("{} fill a region each", named(threads)), "ns/page", fill(ours::by_default))
        .rival("kernel demand paging, 4 KiB", fill(rivals::kernel))
        .rival("pagewise, one region", move |size| shared_fill(size, threads, ours::by_default))
}

fn bare_64_kib(len: usize) -> Opened {
    rivals::bare_handler_by(len, 64 << 10, true)
}

fn by_page_by_userfault(len: usize) -> Opened {
    ours::with(len, |builder| builder.step(CommitStep::page()).engine(Engine::UserFault))
}

fn shared_fill(size: Size, threads: usize, open: fn(usize) -> Opened) -> Sample {
    let len = bytes(size);
    match open(len) {
        Ok(mut area) => {
            let base = area.base().expose_provenance();
            let part = len / threads;
            fill((0..threads).map(|thread| base + thread * part).collect(), part)
        }
        Err(why) => Sample::absent(why),
    }
}

fn own_fill(size: Size, threads: usize, open: fn(usize) -> Opened) -> Sample {
    let part = bytes(size) / threads;
    let areas: Result<Vec<Box<dyn Area>>, String> = (0..threads).map(|_| open(part)).collect();
    match areas {
        Ok(mut areas) => {
            fill(areas.iter_mut().map(|area| area.base().expose_provenance()).collect(), part)
        }
        Err(why) => Sample::absent(why),
    }
}

/// One thread for each start touches the bytes there.
fn fill(starts: Vec<usize>, part: usize) -> Sample {
    let pages = starts.len() * part / pagewise::page_size();
    let touch = |thread: usize| {
        let start = std::ptr::with_exposed_provenance_mut(starts[thread]);
        // SAFETY: an open area can be touched over its length, from any thread.
        unsafe { touch_each_page(start, part) };
    };
    Sample::per(at_once(starts.len(), touch), pages)
}

/// The time from when all threads are ready until the last is done.
fn at_once(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let (start, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (start, end, work) = (&start, &end, &work);
            scope.spawn(move || {
                start.wait();
                work(thread);
                end.wait();
            });
        }
        start.wait();
        let began = Instant::now();
        end.wait();
        began.elapsed()
    })
}

/// Each thread commits and decommits in a reservation of its own, which takes two system calls; the only thing that the
/// threads share is the account.
fn on_one_budget(threads: usize) -> Case {
    let name = format!("{} commit and decommit 64 KiB on one budget", named(threads));
    Case::new(name, "ns/cycle", move |size| cycles(size, threads, Budgets::One))
        .needs(0)
        .rival("pagewise, a budget for each", move |size| cycles(size, threads, Budgets::Own))
        .rival("pagewise, no budget", move |size| cycles(size, threads, Budgets::None))
        .rival("pagewise, children of one budget", move |size| {
            cycles(size, threads, Budgets::Children)
        })
        .rival("pagewise, take from one budget, no memory", move |size| takes(size, threads))
}

#[derive(Clone, Copy, PartialEq)]
enum Budgets {
    One,
    Own,
    Children,
    None,
}

const BLOCK: usize = 64 << 10;
const PLENTY: usize = 1 << 40;

fn count(size: Size) -> usize {
    size.pick(100_000, 20_000, 200)
}

fn cycles(size: Size, threads: usize, budgets: Budgets) -> Sample {
    let shared = Budget::new(PLENTY);
    let make = |_| {
        let builder = Reservation::builder(1 << 20);
        match budgets {
            Budgets::One => builder.budget(shared.clone()).build(),
            Budgets::Own => builder.budget(Budget::new(PLENTY)).build(),
            Budgets::Children => builder.budget(shared.child(PLENTY)).build(),
            Budgets::None => builder.build(),
        }
    };
    let made: Result<Vec<Reservation>, _> = (0..threads).map(make).collect();
    let reservations = match made {
        Ok(reservations) => reservations,
        Err(error) => return Sample::absent(error.to_string()),
    };
    let each = count(size) / threads;
    let time = at_once(threads, |thread| {
        let reservation = &reservations[thread];
        for _ in 0..each {
            reservation.commit(..BLOCK).expect("there is no limit in reach");
            reservation.decommit(..BLOCK).expect("it is committed");
        }
    });
    Sample::per(time, each * threads)
}

fn takes(size: Size, threads: usize) -> Sample {
    let (budget, each) = (Budget::new(PLENTY), count(size) * 10 / threads);
    let time = at_once(threads, |_| {
        for _ in 0..each {
            drop(std::hint::black_box(budget.try_take(BLOCK)));
        }
    });
    Sample::per(time, each * threads)
}
