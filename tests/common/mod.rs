//! Tests that need a process of their own run one: this very test program, told to run one test.

use std::process::{Command, Output};

const ROLE: &str = "PAGEWISE_TEST_ROLE";

/// Whether this process was started for this role.
#[allow(dead_code)]
pub fn is_child(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|actual| actual == role)
}

/// Runs the test `name` of this program in a process of its own, which sees [`is_child`] for `role`.
#[allow(dead_code)]
pub fn run_child(name: &str, role: &str) -> Output {
    child(name, role).output().expect("the child process starts")
}

/// The command behind [`run_child`], for tests that add to it.
#[allow(dead_code)]
pub fn child(name: &str, role: &str) -> Command {
    let program = std::env::current_exe().expect("a test program knows itself");
    let mut command = match emulator() {
        Some(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner has a name"));
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// The command that runs foreign programs, in a test of another processor. (Emulated address space is
/// not free: there, tests reserve gigabytes instead of terabytes.)
#[allow(dead_code)]
pub fn emulator() -> Option<String> {
    std::env::var("PAGEWISE_TEST_RUNNER").ok()
}
