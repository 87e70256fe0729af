//! The command line, as a person or a script uses it.

mod color;
mod copy;
mod demo;
mod doctor;
mod generate;
mod usage;

use std::process::{Command, Output};

use serde_json::Value;

/// The program with these arguments, in an environment that says nothing about colours.
fn pagewise(arguments: &[&str]) -> Command {
    // Cross tests run foreign programs through an emulator.
    let program = env!("CARGO_BIN_EXE_pagewise");
    let mut command = match std::env::var("PAGEWISE_TEST_RUNNER") {
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner has a name"));
            command.args(words).arg(program);
            command
        }
        Err(_) => Command::new(program),
    };
    command.args(arguments).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env_remove("TERM");
    command
}

fn run(arguments: &[&str]) -> Output {
    pagewise(arguments).output().expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is text")
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("complaints are text")
}

/// The only thing on stdout is one object.
fn json(arguments: &[&str], code: i32) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else")
}
