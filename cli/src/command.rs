//! What may stand on the command line.

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{color, copy, demo, doctor, generate};

/// How every subcommand ends. The help and the manual pages show this list.
pub const EXIT_CODES: [(u8, &str); 4] = [
    (0, "Everything that was asked for was done."),
    (1, "A page was refused, because a limit was reached. (demo)"),
    (2, "The arguments are wrong, or contradict one another. Nothing was done."),
    (3, "The system refused something, or this system cannot do it."),
];

/// Memory that is reserved once and committed as it is needed
#[derive(Parser)]
#[command(name = "pagewise", bin_name = "pagewise", version)]
struct Arguments {
    /// When to use colours: `auto` does where a terminal shows them, `NO_COLOR` is not set and `TERM` is not
    /// `dumb`
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto,
        display_order = 900)]
    color: ColorChoice,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    Demo(demo::Arguments),
    Copy(copy::Arguments),
    Doctor(doctor::Arguments),
    Completions(generate::CompletionsArguments),
    Man(generate::ManArguments),
}

/// Returns the subcommand, and whether its output has colours. Ends the process where help or a version is
/// asked for (code 0), or the arguments are wrong (code 2).
pub fn parse() -> (Command, bool) {
    // `pagewise demo --version` prints the version of pagewise, too.
    let named = describe().mut_subcommands(|subcommand| subcommand.display_name("pagewise"));
    let matches = named.get_matches();
    let parsed = Arguments::from_arg_matches(&matches);
    let Arguments { color, command } = parsed.unwrap_or_else(|error| error.exit());
    (command, color::is_wanted(color))
}

/// The whole command line, with every subcommand as it is shown to people.
pub fn command() -> clap::Command {
    let mut command = describe();
    command.build();
    command
}

fn describe() -> clap::Command {
    let codes: Vec<String> =
        EXIT_CODES.iter().map(|(code, meaning)| format!("  {code}  {meaning}")).collect();
    let help = format!("Exit codes:\n{}", codes.join("\n"));
    Arguments::command()
        .color(color::asked_for())
        .propagate_version(true)
        .after_help(help.clone())
        .mut_subcommands(|subcommand| subcommand.after_help(help.clone()))
}

/// Ends the process with code 2, as for any argument of `subcommand` that is wrong.
pub fn refuse(subcommand: &str, message: &str) -> ! {
    let mut command = command();
    let command = command.find_subcommand_mut(subcommand).expect("it is one of the subcommands");
    command.error(ErrorKind::ValueValidation, message).exit()
}
