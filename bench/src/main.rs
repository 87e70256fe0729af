//! pagewise measured against what one would use instead.
//!
//! Subjects take turns, every sample in a fresh process, memory warmed up first. A ratio is ours
//! divided by the rival's: below one, ours is faster.

mod case;
mod harness;
mod ours;
mod plot;
mod report;
mod rivals;
mod row;
mod stats;
mod suites;
mod system;
mod warm;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use case::Size;

#[derive(Parser)]
#[command(about, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Args)]
struct Options {
    /// fill, fault, sparse, append, latency, shared, arena, churn, scale, or all
    #[arg(required = true)]
    suite: Option<String>,
    /// 3 rounds instead of 7, and less work in some
    #[arg(long)]
    quick: bool,
    /// Print an array of objects instead of a table
    #[arg(long)]
    json: bool,
    /// Write charts (SVG) into this directory
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Write tables between the marks of this Markdown file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Only the cases whose name contains this
    // Charts and tables are renewed by whole suites.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["plot", "report"])]
    case: Option<String>,
    /// Rounds of each case
    #[arg(long)]
    rounds: Option<usize>,
    #[arg(long, hide = true)]
    tiny: bool,
}

#[derive(Subcommand)]
enum Inner {
    /// Draw the front page's chart (front.svg) from the tables of a document, without measuring
    Front { document: PathBuf, directory: PathBuf },
    /// Takes one sample and prints it: how this program calls itself
    #[command(hide = true)]
    Sample { suite: String, case: usize, subject: usize, size: Size },
}

impl Options {
    fn size(&self) -> Size {
        match (self.tiny, self.quick) {
            (true, _) => Size::Tiny,
            (_, true) => Size::Quick,
            _ => Size::Full,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.inner {
        Some(Inner::Sample { suite, case, subject, size }) => {
            harness::sample_here(&suite, case, subject, size)
        }
        Some(Inner::Front { document, directory }) => match draw_front(&document, &directory) {
            Ok(false) => Err(format!("{} has not all of the tables", document.display())),
            other => other.map(|_| ()),
        },
        None => measure(&cli.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("pagewise-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the document has every number of the front page's chart.
fn draw_front(document: &Path, directory: &Path) -> Result<bool, String> {
    let failed = |error| format!("drawing the tables of {}: {error}", document.display());
    plot::front::write(document, directory).map_err(failed)
}

fn measure(options: &Options) -> Result<(), String> {
    let name = options.suite.as_deref().unwrap_or("all");
    let (suites, size) = (suites::named(name), options.size());
    if suites.is_empty() {
        let names: Vec<_> = suites::SUITES.iter().map(|suite| suite.name).collect();
        return Err(format!("no suite {name:?}: there are {} and all", names.join(", ")));
    }
    let needs = suites.iter().map(|suite| suite.needs).max().unwrap_or(0);
    warm::up(size.pick(usize::MAX, needs, 0));
    let wanted = options.case.as_deref().unwrap_or("");
    let finished = harness::run(&suites, wanted, size, options.rounds);
    if finished.is_empty() {
        return Err(format!("no case of {name} contains {wanted:?}"));
    }
    if let Some(directory) = &options.plot {
        let failed = |error| format!("writing charts to {}: {error}", directory.display());
        plot::write(directory, &finished).map_err(failed)?;
    }
    let rows: Vec<_> = finished.iter().flat_map(row::rows).collect();
    if let Some(document) = &options.report {
        let failed = |error| format!("writing tables to {}: {error}", document.display());
        report::update(document, &rows).map_err(failed)?;
        if let Some(directory) = &options.plot {
            draw_front(document, directory)?;
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?);
    } else {
        print!("{}", row::table(&rows));
    }
    Ok(())
}
