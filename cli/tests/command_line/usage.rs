//! Help, versions, exit codes, and pipes.

use std::process::Stdio;

use crate::{complaint, pagewise, run, text};

#[test]
fn every_subcommand_has_help_with_its_own_usage_line_and_the_exit_codes() {
    for subcommand in ["demo", "doctor", "completions", "man"] {
        for help in ["--help", "-h"] {
            let output = run(&[subcommand, help]);
            assert_eq!(output.status.code(), Some(0), "{subcommand}");
            let text = text(&output);
            assert!(text.contains(&format!("Usage: pagewise {subcommand} ")), "{text}");
            assert!(text.contains("Exit codes:\n  0  ") && text.contains("\n  3  "), "{text}");
        }
    }
}

#[test]
fn the_version_is_that_of_pagewise_wherever_it_is_asked_for() {
    let expected = concat!("pagewise ", env!("CARGO_PKG_VERSION"), "\n");
    for arguments in [&["--version"][..], &["-V"], &["demo", "--version"], &["man", "-V"]] {
        let output = run(arguments);
        assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), expected));
    }
}

#[test]
fn without_a_subcommand_it_says_what_there_is() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let complaint = complaint(&output);
    for word in ["Usage: pagewise [OPTIONS] <COMMAND>", "demo", "doctor", "completions", "man"] {
        assert!(complaint.contains(word), "{word:?} is missing in:\n{complaint}");
    }
}

#[test]
fn what_the_system_refuses_is_code_three() {
    let pages = (isize::MAX as usize / pagewise::page_size()).to_string();
    let output = run(&["demo", "--pages", &pages]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(output.stdout.is_empty());
    assert!(complaint(&output).starts_with("pagewise: cannot reserve "), "{output:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let command = &mut pagewise(&["demo", "--pages", "5000"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take()); // as `head` does
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
