//! The classic on real memory: reserve, commit on page fault, refuse, decommit, release.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use pagewise::{AccessError, CommitStep, DemandRegion, FaultOutcome, page_size};
use serde::Serialize;

use crate::engine::Engine;
use crate::{command, picture, size};

/// Reserve pages, write to them, and watch each page fault commit its page
///
/// Reserves pages, writes to them, and shows the page fault that commits each page. Past the limit the write is
/// refused; what was written before is verified all the same. At the end the pages are decommitted and released.
#[derive(clap::Args)]
pub struct Arguments {
    /// Pages to reserve
    #[arg(long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,

    /// Pages that may be committed [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Pages to write, byte by byte [default: as many as the limit]
    #[arg(long, value_name = "N")]
    touch: Option<u64>,

    /// The order in which pages are written
    #[arg(long, value_enum, default_value_t = Order::Sequential)]
    order: Order,

    /// How much one fault commits: `page`, `fixed:SIZE` (whole pages, for instance `fixed:64K`) or `adaptive`
    #[arg(long, value_name = "STEP", default_value = "page")]
    step: Step,

    /// What makes pages accessible; an engine that this system does not have is an error
    #[arg(long, value_enum, default_value_t = Engine::Auto)]
    engine: Engine,

    /// Commit everything at once, before the first write: no faults
    #[arg(long, conflicts_with = "step")]
    eager: bool,

    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    Sequential,
    Reverse,
    Random,
}

#[derive(Clone, Copy)]
struct Step(CommitStep);

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let step = match text.split_once(':') {
            None if text == "page" => CommitStep::page(),
            None if text == "adaptive" => CommitStep::adaptive(),
            Some(("fixed", text)) => {
                let (bytes, page) = (size::parse(text)?, page_size());
                if bytes == 0 || bytes % page != 0 {
                    let page = size::show(page);
                    return Err(format!(
                        "a step is one page or more, and whole pages, of {page} here"
                    ));
                }
                CommitStep::fixed(bytes)
            }
            _ => return Err("expected `page`, `fixed:SIZE` or `adaptive`".into()),
        };
        Ok(Self(step))
    }
}

/// The result of a run, with counts in pages.
#[derive(Default, Serialize)]
struct Report {
    page_size: usize,
    engine: Engine,
    pages: usize,
    limit: usize,
    requested: usize,
    touched: usize,
    faults: u64,
    committed: usize,
    refused: bool,
    /// Something was written, and every byte of it was read back.
    verified: bool,
    decommitted: bool,
    released: bool,
}

/// Bytes of text that are written to stdout at once. By lines, a run of 300,000 pages would make as many system calls.
const OUTPUT_BUFFER: usize = 64 << 10;

pub fn run(arguments: &Arguments, color: bool) -> Result<ExitCode> {
    let plan = Plan::of(arguments);
    let report = if arguments.json {
        let report = plan.carry_out(&mut io::sink(), color)?;
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
        report
    } else {
        let mut out = BufWriter::with_capacity(OUTPUT_BUFFER, io::stdout().lock());
        let report = plan.carry_out(&mut out, color)?;
        out.flush()?;
        report
    };
    Ok(ExitCode::from(u8::from(report.refused)))
}

/// Arguments that were checked against one another.
struct Plan {
    pages: usize,
    limit: usize,
    touch: usize,
    order: Order,
    step: CommitStep,
    engine: Engine,
    eager: bool,
}

impl Plan {
    /// Ends the process with code 2 where arguments contradict one another.
    fn of(arguments: &Arguments) -> Self {
        let pages = checked_pages("--pages", arguments.pages);
        let of_them = |option: &str, count: u64| {
            let count = checked_pages(option, count);
            if count > pages {
                refuse(&format!("{option} {count}: there are only {pages} pages (see --pages)"));
            }
            count
        };
        let limit = arguments.limit.map_or(pages, |limit| of_them("--limit", limit));
        let touch = arguments.touch.map_or(limit, |touch| of_them("--touch", touch));
        let Arguments { order, step: Step(step), engine, eager, .. } = *arguments;
        if eager && order == Order::Random && touch < pages {
            refuse(
                "--eager commits one range, and --order random writes pages all over: \
                 leave out one of them, or --touch all pages",
            );
        }
        Self { pages, limit, touch, order, step, engine, eager }
    }

    fn carry_out(&self, out: &mut dyn Write, color: bool) -> Result<Report> {
        let mut region = DemandRegion::builder(self.pages * page_size())
            .limit(self.limit * page_size())
            .step(self.step)
            .engine(self.engine.into())
            .events(4)
            .name("pagewise demo")
            .build()?;
        writeln!(
            out,
            "reserved {} pages of {} bytes at {:p}; {} may be committed",
            self.pages,
            page_size(),
            region.as_ptr(),
            self.limit
        )?;
        let mut report = Report {
            page_size: page_size(),
            engine: self.engine,
            pages: self.pages,
            limit: self.limit,
            requested: self.touch,
            ..Report::default()
        };
        self.write_and_verify(&mut region, &mut report, out)?;
        writeln!(out, "{}", picture::of(&region.page_map()?, color))?;
        region.decommit(..)?;
        report.decommitted = region.committed() == 0;
        writeln!(out, "decommitted: {} bytes committed now", region.committed())?;
        region.release()?;
        report.released = true;
        writeln!(out, "released")?;
        Ok(report)
    }

    fn write_and_verify(
        &self,
        region: &mut DemandRegion,
        report: &mut Report,
        out: &mut dyn Write,
    ) -> Result<()> {
        let written = if self.eager && !self.commit_all(region, report, out)? {
            Vec::new()
        } else {
            self.write_pages(region, report, out)?
        };
        report.touched = written.len();
        report.faults = region.stats().faults;
        report.committed = region.committed() / page_size();
        writeln!(
            out,
            "{} pages committed, {} written, {} page faults",
            report.committed, report.touched, report.faults
        )?;
        let size = page_size();
        for &page in &written {
            let is_intact = region.as_slice()[page * size..][..size] == contents(page, size)[..];
            ensure!(is_intact, "page {page}: what was read back is not what was written");
        }
        report.verified = !written.is_empty();
        if report.verified {
            writeln!(out, "verified: every byte written was read back intact")?;
        } else {
            writeln!(out, "nothing was written: there is nothing to verify")?;
        }
        Ok(())
    }

    /// For `--eager`: commits all pages before the first write. Returns whether the commit was granted.
    fn commit_all(
        &self,
        region: &mut DemandRegion,
        report: &mut Report,
        out: &mut dyn Write,
    ) -> Result<bool> {
        let Range { start, end } = self.written_range();
        match region.commit(start * page_size()..end * page_size()) {
            Ok(()) => writeln!(out, "committed {} pages at once", self.touch)?,
            Err(pagewise::Error::LimitReached { .. }) => {
                report.refused = true;
                writeln!(
                    out,
                    "out of pages: {} pages at once refused, the limit is {}",
                    self.touch, self.limit
                )?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(!report.refused)
    }

    /// Writes page after page until one is refused; returns those that were written.
    fn write_pages(
        &self,
        region: &mut DemandRegion,
        report: &mut Report,
        out: &mut dyn Write,
    ) -> Result<Vec<usize>> {
        let size = page_size();
        let mut written = Vec::with_capacity(self.touch);
        for page in self.pages_in_order() {
            let result = region.write(page * size, &contents(page, size));
            for event in region.events() {
                if matches!(event.outcome, FaultOutcome::Committed { .. }) {
                    let address = region.as_ptr().wrapping_add(event.offset);
                    writeln!(out, "page fault: page {} at {address:p}", event.offset / size)?;
                }
            }
            if let Err(AccessError { refusal, .. }) = result {
                report.refused = true;
                let address = region.as_ptr().wrapping_add(refusal.offset);
                writeln!(out, "out of pages: page {page} at {address:p}: {refusal}")?;
                break;
            }
            written.push(page);
        }
        Ok(written)
    }

    /// The pages that are written in an order other than random.
    fn written_range(&self) -> Range<usize> {
        match self.order {
            Order::Reverse => self.pages - self.touch..self.pages,
            Order::Sequential | Order::Random => 0..self.touch,
        }
    }

    fn pages_in_order(&self) -> Vec<usize> {
        match self.order {
            Order::Sequential => self.written_range().collect(),
            Order::Reverse => self.written_range().rev().collect(),
            Order::Random => random_pages(self.pages, self.touch),
        }
    }
}

/// `count` different pages in an order that looks random, the same on every run, so that two runs can
/// be compared.
fn random_pages(pages: usize, count: usize) -> Vec<usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((u128::from(state) * end as u128) >> 64) as usize
    };
    if count > pages / 2 {
        let mut all: Vec<usize> = (0..pages).collect();
        for last in (1..pages).rev() {
            all.swap(last, below(last + 1));
        }
        all.truncate(count);
        return all;
    }
    // Few pages of many: without a list of all pages, which may be long.
    let mut seen = HashSet::with_capacity(count);
    std::iter::repeat_with(|| below(pages)).filter(|&page| seen.insert(page)).take(count).collect()
}

/// The bytes that the demo writes to a page: different for neighbouring pages and bytes, and never zero.
fn contents(page: usize, size: usize) -> Vec<u8> {
    (0..size).map(|byte| (page.wrapping_mul(151) ^ byte.wrapping_mul(7)) as u8 | 1).collect()
}

fn checked_pages(option: &str, pages: u64) -> usize {
    let most = (isize::MAX as usize / page_size()) as u64;
    if pages > most {
        refuse(&format!("{option} {pages}: at most {most} pages fit an address space"));
    }
    pages as usize
}

fn refuse(message: &str) -> ! {
    command::refuse("demo", message)
}
