//! `pagewise`: what the library does, shown on this machine.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod demo;
mod picture;

/// Memory that is reserved once and committed as it is needed.
#[derive(Parser)]
#[command(name = "pagewise", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let result = match command {
        Command::Demo(arguments) => demo::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        if is_closed_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("pagewise: {error:#}");
        ExitCode::from(3)
    })
}

/// A reader of stdout that closes the pipe (`| head`) is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
