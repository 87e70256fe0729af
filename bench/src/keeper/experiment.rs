//! What the keeper does to first touches: the same work with it and without it, in turns.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Keeper, freshen};
use crate::child::{self, Ended};
use crate::rivals;
use crate::row::number;
use crate::stats::Summary;
use crate::turns::Turns;
use crate::work::touch_each_page;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pages {
    Small,
    Huge,
}

const MIB: usize = 512;

/// Touches memory of the kernel's own, which no library has a part in, and prints the time. If asked to, small pages are
/// freshened before.
pub fn touch(pages: Pages, len: usize, fresh: bool) -> Result<(), String> {
    if fresh && pages == Pages::Small {
        freshen(len);
    }
    let began = Instant::now();
    let mut area =
        if pages == Pages::Huge { rivals::kernel_huge(len)? } else { rivals::kernel(len)? };
    // SAFETY: an open area can be touched over its length.
    unsafe { touch_each_page(area.base(), len) };
    println!("{}", began.elapsed().as_secs_f64() * 1e9 / (len / pagewise::page_size()) as f64);
    Ok(())
}

fn touched(pages: Pages, fresh: bool) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let name = format!("{pages:?}").to_lowercase();
    let mut command = Command::new(program);
    command.args(["touch", &name, &MIB.to_string()]);
    if fresh {
        command.arg("--fresh");
    }
    match child::run(&mut command, Duration::from_secs(120)).map_err(|error| error.to_string())? {
        Ended::Exited { said, cried, .. } => {
            said.trim().parse().map_err(|_| format!("{said}{cried}"))
        }
        Ended::GivenUp(_) => Err("touching memory does not end".into()),
    }
}

/// In each round, both ways in a drawn order: free memory lies idle for some seconds, then a process touches 512 MiB.
pub fn run(rounds: usize, pause: u64) -> Result<(), String> {
    let turns = Turns { seed: fastrand::u64(..1 << 32) };
    println!(
        "first touches of {MIB} MiB, free memory idle for {pause} s before; ns per page of {} bytes",
        pagewise::page_size()
    );
    println!("{:<12} {:<15} {:>9} {:>9} {:>9}", "pages", "", "smallest", "median", "largest");
    for pages in [Pages::Small, Pages::Huge] {
        let mut found = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            for with in turns.order("keeper", pages as usize, round, 2) {
                let kept = with == 1 && pages == Pages::Huge;
                let mut keeper = Keeper::new(if kept { MIB << 20 } else { 0 });
                std::thread::sleep(Duration::from_secs(pause));
                let taken = keeper.during(MIB << 20, kept, || touched(pages, with == 1))?;
                found[with].push(taken);
            }
        }
        for (name, values) in ["without keeper", "with keeper"].into_iter().zip(found) {
            let all = Summary::of(&values).ok_or("no rounds")?;
            let [min, median, max] = [all.min, all.median, all.max].map(number);
            println!("{:<12} {name:<15} {min:>9} {median:>9} {max:>9}", format!("{pages:?}"));
        }
    }
    Ok(())
}
