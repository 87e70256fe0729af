//! Copying between stores, through regions that take a little memory.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use pagewise::{PageStore, PagedRegion, PagedState, PagedStats};
use serde::Serialize;

use crate::{size, store};

/// Copy a file into a store, or back, and read it again to see that it is the same
///
/// Both are used as memory whose pages come from the store and go back to it. It takes as much memory as you say, however
/// large the file is. At the end there is a picture of the pages that are in memory. (On Linux.)
#[derive(clap::Args)]
pub struct Arguments {
    /// What to copy: a file, or a store
    from: String,

    /// Where to copy it: a file, which is replaced, or a store, which must not be there yet
    #[arg(long_help = store::help())]
    to: String,

    /// The most memory to take
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "64M")]
    memory: usize,

    /// What comes and goes at once: a power of two from 4K to 2M
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    page: Option<usize>,

    /// Threads that read ahead and write back
    #[arg(long, value_name = "COUNT", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,

    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    bytes: usize,
    page_bytes: usize,
    memory: usize,
    seconds: f64,
    copied: Counts,
    checked: Counts,
}

#[derive(Serialize)]
struct Counts {
    pages_read: u64,
    pages_written: u64,
    evictions: u64,
    limit: usize,
}

impl Counts {
    fn of(stats: PagedStats, limit: usize) -> Self {
        Self {
            pages_read: stats.loads,
            pages_written: stats.write_backs,
            evictions: stats.evictions,
            limit,
        }
    }
}

/// Bytes that are copied between two looks at the progress.
const STEP: usize = 1 << 20;

type Region = PagedRegion<Box<dyn PageStore>>;

pub fn run(arguments: &Arguments, color: bool) -> Result<ExitCode> {
    let began = Instant::now();
    let source = region(store::open(&arguments.from)?, arguments, true)
        .with_context(|| arguments.from.clone())?;
    let target = store::create(&arguments.to, source.len() as u64)?;
    let mut target = region(target, arguments, false).with_context(|| arguments.to.clone())?;
    let page_bytes = target.page_bytes();

    let bar = progress(source.len(), "copying");
    steps(source.len(), &bar, |start, end| {
        let part = source.pin(start..end)?;
        target.write(start, &part)?;
        drop(part);
        source.done_with(start..end)?;
        Ok(())
    })?;
    target.flush(..)?;
    let copied = Counts::of(target.stats(), target.limit());
    drop(target);

    let again = region(store::open(&arguments.to)?, arguments, true)?;
    let bar = progress(source.len(), "checking");
    steps(source.len(), &bar, |start, end| {
        if source.pin(start..end)?[..] != again.pin(start..end)?[..] {
            bail!("{} differs from {} after offset {start}", arguments.to, arguments.from);
        }
        Ok(())
    })?;

    let report = Report {
        bytes: source.len(),
        page_bytes,
        memory: arguments.memory,
        seconds: began.elapsed().as_secs_f64(),
        copied,
        checked: Counts::of(again.stats(), again.limit()),
    };
    let text = if arguments.json {
        format!("{}\n", serde_json::to_string_pretty(&report)?)
    } else {
        report.to_text() + &picture(&again, color)?
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A region with a third of the memory: at most three are there at once.
fn region(store: Box<dyn PageStore>, arguments: &Arguments, read_only: bool) -> Result<Region> {
    let mut builder = PagedRegion::builder(store)
        .limit(arguments.memory / 3)
        .io_threads(arguments.threads.into());
    if let Some(bytes) = arguments.page {
        builder = builder.page_bytes(bytes);
    }
    if read_only {
        builder = builder.read_only();
    }
    Ok(builder.build()?)
}

fn steps(
    len: usize,
    bar: &ProgressBar,
    mut step: impl FnMut(usize, usize) -> Result<()>,
) -> Result<()> {
    for start in (0..len).step_by(STEP) {
        let end = (start + STEP).min(len);
        step(start, end)?;
        bar.inc((end - start) as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// A bar on stderr, where that is a terminal.
fn progress(len: usize, what: &'static str) -> ProgressBar {
    let template = "{msg:>9} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(len as u64).with_style(style).with_message(what)
}

impl Report {
    fn to_text(&self) -> String {
        let line = |what: &str, counts: &Counts| {
            format!(
                "{what:<9} {} pages read, {} written, {} evicted\n",
                counts.pages_read, counts.pages_written, counts.evictions
            )
        };
        format!(
            "{} in pages of {}, with at most {} of memory: {:.1} s, and the same when read again\n",
            size::show(self.bytes),
            size::show(self.page_bytes),
            size::show(self.memory),
            self.seconds
        ) + &line("copied:", &self.copied)
            + &line("checked:", &self.checked)
    }
}

/// One cell for as many pages as fit a row of 64: what is in memory of them.
fn picture(region: &Region, color: bool) -> Result<String> {
    const COLUMNS: usize = 64;
    let map = region.page_map(..)?;
    let mut text = String::new();
    for part in map.chunks(map.len().div_ceil(COLUMNS).max(1)) {
        let there = part.iter().filter(|&&state| state != PagedState::Absent).count();
        let (code, glyph) = match there {
            0 => (90, '·'),
            some if some < part.len() => (33, '▒'),
            _ => (32, '█'),
        };
        if color {
            text.push_str(&format!("\x1b[{code}m{glyph}\x1b[0m"));
        } else {
            text.push(glyph);
        }
    }
    text.push_str("\n█ in memory   ▒ in part   · only in the store\n");
    Ok(text)
}
