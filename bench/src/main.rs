//! pagewise measured against what one would use instead.
//!
//! Subjects take turns in an order that is drawn for each round, every sample in a fresh process, on memory that is
//! really there. A ratio is ours divided by the rival's: below one, ours is faster.

mod case;
mod child;
mod harness;
mod instructions;
mod keeper;
mod machine;
mod noise;
mod ours;
mod percentiles;
mod plot;
mod report;
mod rivals;
mod row;
mod sample;
mod stats;
mod suites;
mod system;
mod turns;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use case::Size;
use keeper::Keeper;
use machine::Machine;
use row::Results;
use turns::Turns;

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
    /// The name of a suite, or all; an unknown name lists them
    #[arg(required = true)]
    suite: Option<String>,
    /// 3 rounds instead of 6 to 18, and less work in some
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
    /// Decides the order of turns; drawn if it is not given, and printed
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, hide = true)]
    tiny: bool,
}

#[derive(Subcommand)]
enum Inner {
    /// Draw the front page's chart (front.svg) from the tables of a document, without measuring
    Front { document: PathBuf, directory: PathBuf },
    /// Count instructions of the paths that are pagewise's own, under valgrind
    Instructions(instructions::Options),
    /// Show what it does to first touches to keep memory backed (needs a virtual machine to show anything)
    Keeper {
        /// Rounds, each with and without
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Seconds in which the kernel may report free memory, before each sample
        #[arg(long, default_value_t = 5)]
        pause: u64,
    },
    /// Touches memory and prints ns per 4 KiB: how the experiment with the keeper calls this program
    #[command(hide = true)]
    Touch {
        pages: keeper::experiment::Pages,
        mib: usize,
        #[arg(long)]
        fresh: bool,
    },
    /// Runs a program whose instructions are counted: how this program calls itself under valgrind
    #[command(hide = true)]
    Counted { program: String, count: usize },
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
        Some(Inner::Instructions(options)) => instructions::run(&options),
        Some(Inner::Counted { program, count }) => instructions::counted(&program, count),
        Some(Inner::Keeper { rounds, pause }) => keeper::experiment::run(rounds, pause),
        Some(Inner::Touch { pages, mib, fresh }) => {
            keeper::experiment::touch(pages, mib << 20, fresh)
        }
        Some(Inner::Front { document, directory }) => draw_front(&document, &directory),
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

fn draw_front(document: &Path, directory: &Path) -> Result<(), String> {
    let failed = |error| format!("drawing the tables of {}: {error}", document.display());
    for missing in plot::front::write(document, directory).map_err(failed)? {
        eprintln!("pagewise-bench: not in the tables, and so not in the chart: {missing}");
    }
    Ok(())
}

fn measure(options: &Options) -> Result<(), String> {
    let name = options.suite.as_deref().unwrap_or("all");
    let (suites, size) = (suites::named(name), options.size());
    if suites.is_empty() {
        let names: Vec<_> = suites::SUITES.iter().map(|suite| suite.name).collect();
        return Err(format!("no suite {name:?}: there are {} and all", names.join(", ")));
    }
    let wanted = options.case.as_deref().unwrap_or("");
    let turns = Turns { seed: options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)) };
    let mut machine = Machine::this(turns.seed);
    let mut keeper = keeper(&suites, size);
    machine.settings.push(("kept".into(), keeper.describe()));
    let plan = harness::Plan { suites: &suites, wanted, size, rounds: options.rounds, turns };
    let finished = harness::run(&plan, &mut keeper);
    drop(keeper);
    if finished.is_empty() {
        return Err(format!("no case of {name} contains {wanted:?}"));
    }
    let results = Results::of(machine, &finished);
    write(options, &finished, &results)
}

/// Holds what the largest sample in huge pages needs.
fn keeper(suites: &[&suites::Suite], size: Size) -> Keeper {
    let most = suites.iter().map(|suite| suite.needs_huge).max().unwrap_or(0);
    if size == Size::Tiny { Keeper::default() } else { Keeper::new(most) }
}

fn write(
    options: &Options,
    finished: &[harness::Finished],
    results: &Results,
) -> Result<(), String> {
    if let Some(directory) = &options.plot {
        let failed = |error| format!("writing charts to {}: {error}", directory.display());
        plot::write(directory, finished, results).map_err(failed)?;
    }
    if let Some(document) = &options.report {
        let failed = |error| format!("writing tables to {}: {error}", document.display());
        let charts = options.plot.as_ref().map(|directory| seen_from(document, directory));
        report::update(document, results, charts.as_deref()).map_err(failed)?;
        if let Some(directory) = &options.plot {
            draw_front(document, directory)?;
        }
    }
    if options.json {
        let objects: Vec<_> = results.objects().collect();
        println!("{}", serde_json::to_string_pretty(&objects).map_err(|error| error.to_string())?);
        results.complaints().for_each(|complaint| eprintln!("pagewise-bench: {complaint}"));
    } else {
        print!("{}", results.table());
    }
    Ok(())
}

/// The directory as a link in the document calls it, if it lies beside or below the document.
fn seen_from(document: &Path, directory: &Path) -> String {
    let folder = document.parent().unwrap_or(Path::new(""));
    directory.strip_prefix(folder).unwrap_or(directory).display().to_string()
}
