//! What is made from the command line's own description: shell completions and manual pages.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::command::{self, EXIT_CODES};

/// Print a script that completes the command line in a shell
///
/// For bash: pagewise completions bash > ~/.local/share/bash-completion/completions/pagewise
#[derive(clap::Args)]
pub struct CompletionsArguments {
    /// The shell that will read the script
    shell: Shell,
}

pub fn completions(arguments: &CompletionsArguments) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command::command(), "pagewise", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Print a manual page, or write all of them to a folder
///
/// To read one at once: pagewise man demo | man -l -
#[derive(clap::Args)]
pub struct ManArguments {
    /// The subcommand that the page is about [default: pagewise itself]
    subcommand: Option<String>,

    /// Write the page of every command to this folder, which is made where there is none
    #[arg(long, value_name = "FOLDER", conflicts_with = "subcommand")]
    all: Option<PathBuf>,
}

pub fn manual(arguments: &ManArguments) -> Result<ExitCode> {
    let pages = pages();
    if let Some(folder) = &arguments.all {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (name, command) in pages {
            let path = folder.join(format!("{name}.1"));
            fs::write(&path, page(command)?).with_context(|| path.display().to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = match &arguments.subcommand {
        Some(subcommand) => format!("pagewise-{subcommand}"),
        None => "pagewise".into(),
    };
    let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
    let Some(found) = names.iter().position(|name| *name == wanted) else {
        let known = names.join(", ");
        command::refuse("man", &format!("there is no page {wanted}; there are: {known}"));
    };
    io::stdout().write_all(&page(pages[found].1.clone())?)?;
    Ok(ExitCode::SUCCESS)
}

/// Every command that has a page, with the page's name.
fn pages() -> Vec<(String, clap::Command)> {
    let all = command::command();
    let is_own = |subcommand: &&clap::Command| subcommand.get_name() != "help";
    let mut pages: Vec<_> = all
        .get_subcommands()
        .filter(is_own)
        .map(|subcommand| (format!("pagewise-{}", subcommand.get_name()), subcommand.clone()))
        .collect();
    pages.insert(0, ("pagewise".into(), all));
    pages
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command).source(concat!("pagewise ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    for (code, meaning) in EXIT_CODES {
        writeln!(page, ".TP\n.B {code}\n{meaning}")?;
    }
    man.render_version_section(&mut page)?;
    Ok(page)
}
