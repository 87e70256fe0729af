//! Random operations on several regions from several threads, against a model that is plain arrays.
//!
//! An input is a sequence of bytes. The first few choose the number of regions and their options. The rest is divided
//! among the regions: each part is a sequence of operations, which a thread of its own makes. The regions may share a
//! budget. [`run`] panics where pagewise and the model differ.

use std::ops::Range;

use pagewise::{
    AccessError, Budget, CommitStep, DemandRegion, Engine, Error, FaultOutcome, RefusalReason,
    page_size,
};

/// Reads numbers from the bytes of the input; zeros after its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first.into()
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.byte() << 8 | self.byte()) % bound.max(1)
    }

    /// Half of the offsets are near a page edge, where errors are likely.
    fn offset(&mut self, len: usize) -> usize {
        let near = self.below(len / page_size() + 1) * page_size();
        let byte = self.byte();
        let offset =
            if byte.is_multiple_of(2) { near + byte / 2 } else { near + self.below(page_size()) };
        match byte % 4 {
            0 => near.saturating_sub(byte / 4).min(len),
            _ => offset.min(len),
        }
    }

    fn range(&mut self, len: usize) -> Range<usize> {
        let (a, b) = (self.offset(len), self.offset(len));
        // Mostly short lengths: long ones use up the limit at once.
        if self.byte().is_multiple_of(4) {
            a.min(b)..a.max(b)
        } else {
            a..(a + self.below(300)).min(len)
        }
    }
}

/// Runs one input.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let count = 1 + input.byte() % 4;
    let shared =
        input.byte().is_multiple_of(3).then(|| Budget::new(input.below(100) * page_size()));
    let mut subjects: Vec<Subject> =
        (0..count).map(|_| Subject::new(&mut input, shared.as_ref())).collect();
    let share = input.0.len().div_ceil(count).max(1);
    std::thread::scope(|scope| {
        for (subject, bytes) in subjects.iter_mut().zip(input.0.chunks(share)) {
            scope.spawn(|| {
                let mut input = Input(bytes);
                while !input.is_empty() {
                    subject.step(&mut input);
                }
                subject.check_everything();
            });
        }
    });
    let total: usize = subjects.iter().map(|subject| subject.region.committed()).sum();
    if let Some(shared) = shared {
        assert_eq!(shared.used(), total, "the budget is what the regions have");
        assert!(shared.peak() <= shared.limit());
        drop(subjects);
        assert_eq!(shared.used(), 0, "everything was released");
    }
}

/// A region and its model.
struct Subject {
    region: DemandRegion,
    /// The expected value of every byte.
    contents: Vec<u8>,
    /// Pages that must be committed; a step may have committed others ahead of the faults.
    certain: Vec<bool>,
    /// Faults commit one page each, so that `certain` is exact.
    exact: bool,
    limited_alone: bool,
    limit: usize,
    events_committed: usize,
    explicitly: usize,
    given_back: usize,
    refused: u64,
}

impl Subject {
    fn new(input: &mut Input, shared: Option<&Budget>) -> Self {
        let pages = 1 + input.byte() % 80;
        let limit = input.byte() % 100;
        let (step, exact) = match input.byte() % 4 {
            0 | 1 => (CommitStep::page(), true),
            2 => (CommitStep::fixed(input.below(9 * page_size())), false),
            _ => (CommitStep::adaptive(), false),
        };
        let wanted = if input.byte().is_multiple_of(2) { Engine::Auto } else { Engine::Protect };
        let mut builder = DemandRegion::builder(pages * page_size())
            .limit(limit * page_size())
            .step(step)
            .engine(wanted)
            .guard_pages(input.byte() % 3)
            .events(1 << 12);
        if let Some(shared) = shared {
            builder = builder.budget(shared.clone());
        }
        Self {
            region: builder.build().expect("a region"),
            contents: vec![0; pages * page_size()],
            certain: vec![false; pages],
            exact,
            limited_alone: shared.is_none(),
            limit: limit.min(pages) * page_size(),
            events_committed: 0,
            explicitly: 0,
            given_back: 0,
            refused: 0,
        }
    }

    fn step(&mut self, input: &mut Input) {
        let len = self.contents.len();
        match input.byte() % 9 {
            0 | 1 => {
                let range = input.range(len);
                let value = input.byte() as u8 | 1;
                let bytes: Vec<u8> = range.clone().map(|at| value ^ (at % 127) as u8).collect();
                let result = self.region.write(range.start, &bytes);
                let done = self.outcome(&range, result);
                self.contents[range.start..range.start + done].copy_from_slice(&bytes[..done]);
            }
            2 => {
                let (range, value) = (input.range(len), input.byte() as u8);
                let result = self.region.fill(range.clone(), value);
                let done = self.outcome(&range, result);
                self.contents[range.start..range.start + done].fill(value);
            }
            3 => {
                let range = input.range(len);
                let mut bytes = vec![0xee; range.len()];
                let result = self.region.read(range.start, &mut bytes);
                let done = self.outcome(&range, result);
                assert_eq!(bytes[..done], self.contents[range.start..range.start + done]);
                assert!(bytes[done..].iter().all(|&byte| byte == 0xee), "untouched");
            }
            4 => self.commit(input.range(len)),
            5 => self.decommit(input.range(len)),
            6 => self.read_together(input),
            7 => {
                // Plain stores, where nothing can be refused.
                let page = input.below(self.certain.len());
                if self.certain[page] {
                    let at = page * page_size() + input.below(page_size());
                    self.region.as_mut_slice()[at] = 0x77;
                    self.contents[at] = 0x77;
                }
            }
            _ => self.check_counts(),
        }
    }

    /// Checks how an access ended, notes what it committed, and returns how far it came.
    fn outcome(&mut self, range: &Range<usize>, result: Result<(), AccessError>) -> usize {
        let done = match result {
            Ok(()) => range.len(),
            Err(error) => {
                assert!(error.copied < range.len());
                assert_eq!(error.refusal.offset, range.start + error.copied);
                assert!(
                    matches!(
                        error.refusal.reason,
                        RefusalReason::Limit { .. } | RefusalReason::Budget { .. }
                    ),
                    "{error}"
                );
                let page = error.refusal.offset / page_size();
                assert!(!self.certain[page], "a committed page was refused");
                if self.limited_alone {
                    assert_eq!(self.region.committed(), self.limit, "refused before the limit");
                }
                self.refused += 1;
                error.copied
            }
        };
        self.note_committed(range.start..range.start + done);
        done
    }

    fn note_committed(&mut self, bytes: Range<usize>) {
        if !bytes.is_empty() {
            self.certain[bytes.start / page_size()..bytes.end.div_ceil(page_size())].fill(true);
        }
    }

    fn commit(&mut self, range: Range<usize>) {
        let before = self.region.committed();
        match self.region.commit(range.clone()) {
            Ok(()) => self.note_committed(range),
            Err(
                Error::LimitReached { requested, used, limit, .. }
                | Error::BudgetReached { requested, used, limit, .. },
            ) => {
                assert!(used + requested > limit);
                assert_eq!(self.region.committed(), before, "all or nothing");
            }
            Err(other) => panic!("{other}"),
        }
        self.explicitly += self.region.committed() - before;
    }

    fn decommit(&mut self, range: Range<usize>) {
        let before = self.region.committed();
        self.region.decommit(range.clone()).expect("decommit");
        self.given_back += before - self.region.committed();
        // Only whole pages.
        let (first, end) = (range.start.div_ceil(page_size()), range.end / page_size());
        if first < end {
            self.certain[first..end].fill(false);
            self.contents[first * page_size()..end * page_size()].fill(0);
        }
    }

    /// Several threads read the same bytes at once: all see what the model has, or all are refused at the same byte.
    fn read_together(&mut self, input: &mut Input) {
        let range = input.range(self.contents.len());
        let (region, contents) = (&self.region, &self.contents);
        let read = || {
            let mut bytes = vec![0; range.len()];
            let result = region.read(range.start, &mut bytes);
            let done = result.as_ref().map_or_else(|error| error.copied, |()| bytes.len());
            assert_eq!(bytes[..done], contents[range.start..range.start + done]);
            (done, result.is_err())
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(read));
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        for (done, was_refused) in results {
            self.refused += u64::from(was_refused);
            self.note_committed(range.start..range.start + done);
        }
    }

    fn check_counts(&mut self) {
        for event in self.region.events() {
            if let FaultOutcome::Committed { start, len } = event.outcome {
                assert!(start <= event.offset && event.offset < start + len);
                self.events_committed += len;
            }
        }
        let stats = self.region.stats();
        let certain = self.certain.iter().filter(|&&certain| certain).count() * page_size();
        assert!(certain <= stats.committed && stats.committed <= stats.peak);
        assert!(stats.peak <= self.limit && stats.limit == self.limit);
        assert!(!self.exact || certain == stats.committed, "{certain} {}", stats.committed);
        assert_eq!(stats.refused, self.refused);
        if stats.events_lost == 0 {
            let came = self.events_committed + self.explicitly;
            assert_eq!(came, stats.committed + self.given_back, "every page is accounted for");
        }
    }

    fn check_everything(&mut self) {
        self.check_counts();
        let map = self.region.page_map().expect("a page map");
        let committed = map.runs().iter().filter(|run| run.state.committed);
        assert_eq!(
            committed.map(|run| run.count).sum::<usize>() * page_size(),
            self.region.committed()
        );
        for (page, _) in self.certain.iter().enumerate().filter(|(_, certain)| **certain) {
            let range = page * page_size()..(page + 1) * page_size();
            assert_eq!(self.region.as_slice()[range.clone()], self.contents[range], "page {page}");
        }
    }
}

/// The entry point that libFuzzer and AFL++ link with: see the README of this folder.
///
/// # Safety
/// `data` has `len` readable bytes.
#[cfg(fuzzing)]
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, len: usize) -> std::ffi::c_int {
    if len > 0 {
        // SAFETY: the caller's promise.
        run(unsafe { std::slice::from_raw_parts(data, len) });
    }
    0
}
