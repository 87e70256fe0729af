//! Instructions of the paths that are pagewise's own, counted by valgrind: unlike time, they do not depend on the machine's
//! neighbours.

mod programs;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::child::{self, Ended};
use programs::{PROGRAMS, Program};
use table::Count;

#[derive(Args)]
pub struct Options {
    /// Write the table between the marks of this Markdown file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Fail if a count is more than a twentieth above that of the table in this file
    #[arg(long, value_name = "FILE", conflicts_with = "report")]
    check: Option<PathBuf>,
}

/// Called in the process that valgrind runs: does the work so often, and nothing else.
pub fn counted(name: &str, count: usize) -> Result<(), String> {
    let program = PROGRAMS.iter().find(|program| program.name == name).ok_or("no such program")?;
    (program.run)(count)
}

pub fn run(options: &Options) -> Result<(), String> {
    let counts = measure()?;
    for count in &counts {
        println!("{:>10.1}  {}", count.instructions, count.what);
    }
    let compiler = env!("PAGEWISE_COMPILER");
    if let Some(document) = &options.report {
        change(document, |text| table::replaced(text, &counts, compiler))?;
    }
    if let Some(document) = &options.check {
        let text = std::fs::read_to_string(document).map_err(|error| error.to_string())?;
        table::compare(&text, &counts, compiler)?;
    }
    Ok(())
}

fn change(document: &Path, new: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let text = std::fs::read_to_string(document).map_err(|error| error.to_string())?;
    let text = new(&text).ok_or("the document has no marks to write between")?;
    std::fs::write(document, text).map_err(|error| error.to_string())
}

/// What each program takes for one operation, without what the same loop takes around nothing.
fn measure() -> Result<Vec<Count>, String> {
    let empty = per_operation(&programs::EMPTY)?;
    let count = |program: &Program| {
        Ok(Count { what: program.what.into(), instructions: per_operation(program)? - empty })
    };
    PROGRAMS.iter().filter(|program| program.name != programs::EMPTY.name).map(count).collect()
}

/// The difference of two runs of different lengths, so that the start of the program does not count.
fn per_operation(program: &Program) -> Result<f64, String> {
    let (few, many) = (program.count, program.count * 3);
    let difference = callgrind(program, many)?.checked_sub(callgrind(program, few)?);
    let difference = difference.ok_or("more operations took fewer instructions")?;
    Ok(difference as f64 / (many - few) as f64)
}

/// All instructions of a run.
fn callgrind(program: &Program, count: usize) -> Result<u64, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    // Registers are written back at each instruction: a fault's handler changes pages and returns to the instruction that
    // faulted, which must find the registers that it had.
    command.args(["--px-default=allregs-at-each-insn", "--px-file-backed=allregs-at-each-insn"]);
    command.arg(this).args(["counted", program.name, &count.to_string()]);
    let failed = |why: &str| format!("{} under valgrind: {why}", program.name);
    match child::run(&mut command, Duration::from_secs(120)) {
        Ok(Ended::Exited { cried, status, .. }) => {
            let last = cried.lines().last().unwrap_or("no word");
            let found = collected(&cried).filter(|_| status.success());
            found.ok_or_else(|| failed(&format!("{status}: {last}")))
        }
        Ok(Ended::GivenUp(after)) => Err(failed(&format!("no end within {} s", after.as_secs()))),
        Err(error) => Err(failed(&error.to_string())),
    }
}

/// The number in valgrind's line `==PID== Collected : NUMBER`.
fn collected(cried: &str) -> Option<u64> {
    let mut numbers = cried.lines().filter_map(|line| line.split_once("Collected : "));
    numbers.next_back().and_then(|(_, number)| number.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_valgrinds_output() {
        let said = "==1== Callgrind\n==1== Events    : Ir\n==1== Collected : 28733\n==1== \n==1== I   refs:      28,733\n";
        assert_eq!(collected(said), Some(28733));
        assert_eq!(collected("no such tool"), None);
    }

    #[test]
    fn every_program_runs() {
        for program in PROGRAMS {
            counted(program.name, 3).unwrap();
        }
        assert!(counted("nothing of this name", 1).is_err());
    }
}
