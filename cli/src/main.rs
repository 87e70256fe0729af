//! `pagewise`: what the library does, shown on this machine.

use std::process::ExitCode;

mod color;
mod command;
mod copy;
mod demo;
mod doctor;
mod engine;
mod generate;
mod picture;
mod size;
mod store;

use command::Command;

fn main() -> ExitCode {
    let (command, color) = command::parse();
    let result = match command {
        Command::Demo(arguments) => demo::run(&arguments, color),
        Command::Copy(arguments) => copy::run(&arguments, color),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completions(arguments) => generate::completions(&arguments),
        Command::Man(arguments) => generate::manual(&arguments),
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
