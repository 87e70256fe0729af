//! What this system offers to the library, and where its limits are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use pagewise::{DemandRegion, page_size, reserve_granularity};
use serde::Serialize;

use crate::engine::Engine;
use crate::size;

/// Show which engines work on this system, and the limits that it sets
///
/// Tries every engine: reserves memory, touches a page, and reads it back. Reads the system's settings that decide
/// about commits, mappings, locked memory and huge pages (on Linux). The exit code is 3 where no engine works.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Findings {
    page_size: usize,
    reserve_granularity: usize,
    /// `null` for an engine that works, else why it does not.
    engines: BTreeMap<String, Option<String>>,
    /// The system's own words. What this system does not have is not there.
    settings: BTreeMap<&'static str, String>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let findings = Findings {
        page_size: page_size(),
        reserve_granularity: reserve_granularity(),
        engines: Engine::value_variants()
            .iter()
            .map(|&engine| (engine.name(), fault(engine)))
            .collect(),
        settings: settings(),
    };
    let text = if arguments.json {
        format!("{}\n", serde_json::to_string_pretty(&findings)?)
    } else {
        findings.to_text()
    };
    io::stdout().write_all(text.as_bytes())?;
    let works = findings.engines.values().any(Option::is_none);
    Ok(ExitCode::from(if works { 0 } else { 3 }))
}

impl Findings {
    fn to_text(&self) -> String {
        let mut lines = vec![
            ("page".into(), size::show(self.page_size)),
            ("reserved in units of".into(), size::show(self.reserve_granularity)),
        ];
        for (name, fault) in &self.engines {
            let answer = fault.clone().unwrap_or_else(|| "works".into());
            lines.push((format!("engine {name}"), answer));
        }
        for (&name, value) in &self.settings {
            let is_size = LIMITS.iter().any(|(limit, _)| *limit == name);
            let bytes = value.parse().ok().filter(|_| is_size);
            lines.push((name.into(), bytes.map_or_else(|| value.clone(), size::show)));
        }
        lines.iter().map(|(name, value)| format!("{name:<38} {value}\n")).collect()
    }
}

/// Why an engine does not work here.
fn fault(engine: Engine) -> Option<String> {
    let try_it = || -> Result<(), pagewise::Error> {
        let mut region = DemandRegion::builder(1 << 30).engine(engine.into()).build()?;
        region.write(1 << 29, &[1])?;
        region.release()
    };
    try_it().err().map(|error| error.to_string())
}

/// Files of Linux with one value each.
const FILES: [(&str, &str); 6] = [
    ("kernel", "/proc/sys/kernel/osrelease"),
    ("vm.overcommit_memory", "/proc/sys/vm/overcommit_memory"),
    ("vm.max_map_count", "/proc/sys/vm/max_map_count"),
    ("vm.nr_hugepages", "/proc/sys/vm/nr_hugepages"),
    ("vm.unprivileged_userfaultfd", "/proc/sys/vm/unprivileged_userfaultfd"),
    ("transparent huge pages", "/sys/kernel/mm/transparent_hugepage/enabled"),
];

/// Lines of `/proc/self/limits`: soft limits, in bytes.
const LIMITS: [(&str, &str); 3] = [
    ("limit of address space (ulimit -v)", "Max address space"),
    ("limit of data (ulimit -d)", "Max data size"),
    ("limit of locked memory (ulimit -l)", "Max locked memory"),
];

fn settings() -> BTreeMap<&'static str, String> {
    let mut settings = BTreeMap::new();
    for (name, path) in FILES {
        if let Ok(value) = fs::read_to_string(path) {
            settings.insert(name, value.trim().to_owned());
        }
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    for (name, title) in LIMITS {
        let line = limits.lines().find_map(|line| line.strip_prefix(title));
        if let Some(soft) = line.and_then(|rest| rest.split_whitespace().next()) {
            settings.insert(name, soft.to_owned());
        }
    }
    settings
}
