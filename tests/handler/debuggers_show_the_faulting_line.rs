//! A debugger and a core dump show the line of a refused plain access at the top: the instruction faults again, and no
//! function of pagewise is on the stack.
#![cfg(all(target_os = "linux", not(pagewise_model)))]

use crate::common;
use std::process::Command;

#[inline(never)]
fn the_line_that_was_refused(region: &mut pagewise::DemandRegion) {
    region.as_mut_slice()[12_345] = 1; // here
}

#[test]
fn gdb_stops_at_the_refused_access() {
    if common::is_child("debugged") {
        let mut region = pagewise::DemandRegion::builder(1 << 20).limit(0).build().unwrap();
        return the_line_that_was_refused(&mut region);
    }
    if common::emulator().is_some() {
        return common::not_here("gdb (an emulator is not what it debugs)");
    }
    if Command::new("gdb").arg("--version").output().is_err() {
        return common::not_here("gdb (it is not installed)");
    }
    let child = common::child("gdb_stops_at_the_refused_access", "debugged");
    let output = Command::new("gdb")
        .args(["-q", "-batch", "-nx"])
        // The debugger is told not to stop at the faults that are served. The refused one occurs twice; the second
        // ends the program.
        .args(["-ex", "set debuginfod enabled off"])
        .args(["-ex", "handle SIGSEGV SIGBUS nostop noprint pass", "-ex", "run"])
        .args(["-ex", "handle SIGSEGV stop print pass", "-ex", "run", "-ex", "continue"])
        .args(["-ex", "backtrace 3", "-ex", "kill", "--args"])
        .arg(child.get_program())
        .args(child.get_args())
        .envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("ptrace: Operation not permitted") || text.contains("Cannot create process") {
        return common::not_here("gdb (this system forbids debugging)");
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Program terminated with signal SIGSEGV"), "{text}{errors}");
    let (_, stopped) = text.rsplit_once("received signal SIGSEGV").unwrap_or(("", ""));
    let top = stopped.split("#0 ").nth(1).and_then(|rest| rest.split("#1 ").next());
    let top = top.unwrap_or_else(|| panic!("no backtrace: {text}{errors}"));
    assert!(top.contains("the_line_that_was_refused"), "{text}{errors}");
    let place = format!("{}:{}", file!(), LINE);
    assert!(top.contains(&place), "{place} is not in {top}");
}

/// The number of the line with the access, which has a mark.
const LINE: usize = {
    let text = include_bytes!("debuggers_show_the_faulting_line.rs");
    let (mut line, mut at) = (1, 0);
    loop {
        if text[at] == b'/' && text[at + 1] == b'/' && text[at + 3] == b'h' && text[at + 6] == b'e'
        {
            break line;
        }
        if text[at] == b'\n' {
            line += 1;
        }
        at += 1;
    }
};
