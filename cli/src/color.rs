//! When output has colours.

use std::env;
use std::io::{self, IsTerminal};

use clap::{ColorChoice, ValueEnum};

/// Whether what goes to stdout has colours.
pub fn is_wanted(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
            let is_dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
            !is_set("NO_COLOR") && !is_dumb && io::stdout().is_terminal()
        }
    }
}

/// What `--color` says, read before the command line is checked: for help and for the errors of that check.
pub fn asked_for() -> ColorChoice {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let mut choice = None;
    while let Some(word) = words.next().filter(|word| word != "--") {
        if word == "--color" {
            choice = words.next();
        } else if let Some(when) = word.strip_prefix("--color=") {
            choice = Some(when.into());
        }
    }
    choice.and_then(|when| ColorChoice::from_str(&when, false).ok()).unwrap_or_default()
}
