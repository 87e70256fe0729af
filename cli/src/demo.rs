//! The classic on real memory: reserve, commit on page fault, refuse, decommit, release.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{CommandFactory, ValueEnum};
use pagewise::{AccessError, CommitStep, DemandRegion, FaultOutcome, page_size};
use serde::Serialize;

use crate::picture;

/// Reserve pages, write to them, and watch each page fault commit its page; past the limit the write
/// is refused; at the end decommit and release.
///
/// Exit code 0: everything was written. 1: a page was refused (what was written before was verified
/// all the same). 2: bad arguments. 3: the system said no.
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

    /// How much one fault commits: `page`, `fixed:BYTES` or `adaptive`
    #[arg(long, value_name = "STEP", default_value = "page")]
    step: Step,

    /// Commit everything at once, before the first write: no faults
    #[arg(long)]
    eager: bool,

    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
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
            Some(("fixed", bytes)) => match bytes.parse() {
                Ok(bytes) if bytes > 0 => CommitStep::fixed(bytes),
                _ => return Err(format!("`{bytes}` is no number of bytes above zero")),
            },
            _ => return Err("expected `page`, `fixed:BYTES` or `adaptive`".into()),
        };
        Ok(Self(step))
    }
}

/// The result of a run, with counts in pages.
#[derive(Default, Serialize)]
struct Report {
    page_size: usize,
    pages: usize,
    limit: usize,
    requested: usize,
    touched: usize,
    faults: u64,
    committed: usize,
    refused: bool,
    verified: bool,
    decommitted: bool,
    released: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let plan = Plan::of(arguments);
    let mut out: Box<dyn Write> =
        if arguments.json { Box::new(io::sink()) } else { Box::new(io::stdout().lock()) };
    let show_picture = !arguments.json && io::stdout().is_terminal();
    let report = plan.carry_out(&mut out, show_picture)?;
    drop(out);
    if arguments.json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    }
    anyhow::ensure!(report.verified, "what was read back is not what was written");
    Ok(ExitCode::from(u8::from(report.refused)))
}

/// Arguments that were checked against one another.
struct Plan {
    pages: usize,
    limit: usize,
    touch: usize,
    order: Order,
    step: CommitStep,
    eager: bool,
}

impl Plan {
    /// Ends the process with code 2 where arguments contradict one another.
    fn of(arguments: &Arguments) -> Self {
        let pages = checked_pages("--pages", arguments.pages);
        let limit =
            arguments.limit.map_or(pages, |limit| checked_pages("--limit", limit)).min(pages);
        let touch = arguments.touch.map_or(limit, |touch| checked_pages("--touch", touch));
        if touch > pages {
            bad_arguments(&format!("--touch {touch}: there are only {pages} pages (see --pages)"));
        }
        let Step(step) = arguments.step;
        Self { pages, limit, touch, order: arguments.order, step, eager: arguments.eager }
    }

    fn carry_out(&self, out: &mut dyn Write, show_picture: bool) -> Result<Report> {
        let size = page_size();
        let mut region = DemandRegion::builder(self.pages * size)
            .limit(self.limit * size)
            .step(self.step)
            .events(4)
            .name("pagewise demo")
            .build()?;
        writeln!(
            out,
            "reserved {} pages of {size} bytes at {:p}; {} may be committed",
            self.pages,
            region.as_ptr(),
            self.limit
        )?;
        let (pages, limit) = (self.pages, self.limit);
        let mut report =
            Report { page_size: size, pages, limit, requested: self.touch, ..Report::default() };
        let written = if self.eager && !self.commit_all(&mut region, &mut report, out)? {
            Vec::new()
        } else {
            self.write_pages(&mut region, &mut report, out)?
        };
        report.touched = written.len();
        report.faults = region.stats().faults;
        report.committed = region.committed() / size;
        writeln!(
            out,
            "{} pages committed, {} written, {} page faults",
            report.committed, report.touched, report.faults
        )?;
        report.verified = written
            .iter()
            .all(|&page| region.as_slice()[page * size..][..size] == contents(page, size)[..]);
        if report.verified {
            writeln!(out, "verified: every byte written was read back intact")?;
        }
        if show_picture {
            writeln!(out, "{}", picture::of(&region.page_map()?))?;
        }
        region.decommit(..)?;
        report.decommitted = region.committed() == 0;
        writeln!(out, "decommitted: {} bytes committed now", region.committed())?;
        region.release()?;
        report.released = true;
        writeln!(out, "released")?;
        Ok(report)
    }

    /// For `--eager`: commits all pages before the first write. Returns whether the commit was granted.
    fn commit_all(
        &self,
        region: &mut DemandRegion,
        report: &mut Report,
        out: &mut dyn Write,
    ) -> Result<bool> {
        match region.commit(..self.touch * page_size()) {
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

    fn pages_in_order(&self) -> Vec<usize> {
        match self.order {
            Order::Sequential => (0..self.touch).collect(),
            Order::Reverse => (self.pages - self.touch..self.pages).rev().collect(),
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
        bad_arguments(&format!("{option} {pages}: at most {most} pages fit an address space"));
    }
    pages as usize
}

fn bad_arguments(message: &str) -> ! {
    crate::Arguments::command().error(ErrorKind::ValueValidation, message).exit()
}
