//! Reporting what a test cannot check on this machine. In a file of its own, since the tests inside `src/` use it, too.
#![allow(dead_code)] // each program that includes it uses a part of it

use std::collections::BTreeSet;
use std::io::Write;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

const MARK: &str = "NOT TESTED HERE: ";

/// Reports that a test does not check something here: once in a process on stderr, past the test runner, which hides
/// the output of passing tests; and each time in the file that `PAGEWISE_SKIPS` names, for scripts that compare it
/// with what they expect.
#[track_caller]
pub fn not_here(what: &str) {
    let file = plain(Location::caller().file());
    announce(&format!("{file}: {what}"));
    if let Some(list) = std::env::var_os("PAGEWISE_SKIPS") {
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        // In one call, since tests and their children append to the file at the same time.
        list.write_all(format!("{file}: {what}\n").as_bytes()).unwrap();
    }
}

/// A path with slashes, and without the folders that it enters and leaves again: in `tests/limits/main.rs`, a
/// module from `../common/mod.rs` is `tests/limits/../common/mod.rs` to the compiler.
fn plain(file: &str) -> String {
    let mut parts = Vec::new();
    for part in file.split(['/', '\\']) {
        if part == ".." && parts.last().is_some_and(|&last| last != "..") {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// Repeats the reports of a child process, whose stderr is captured.
pub fn repeat_what_a_child_said(stderr: &[u8]) {
    String::from_utf8_lossy(stderr)
        .lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .for_each(announce);
}

fn announce(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(line.to_owned()) {
        // The runner captures only `eprintln!` and the like. A closed stderr is no failure.
        let _ = std::io::stderr().write_all(format!("{MARK}{line}\n").as_bytes());
    }
}
