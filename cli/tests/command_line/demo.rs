//! `pagewise demo`, as a person or a script runs it.

use std::process::Output;

use serde_json::Value;

use crate::{complaint, run, text};

fn demo(arguments: &[&str]) -> Output {
    run(&[&["demo"], arguments].concat())
}

fn json(arguments: &[&str], code: i32) -> Value {
    crate::json(&[&["demo"], arguments].concat(), code)
}

#[test]
fn the_classic_takes_one_fault_for_each_of_its_eighty_pages() {
    let output = demo(&[]);
    assert_eq!(output.status.code(), Some(0));
    let text = text(&output);
    assert_eq!(text.matches("page fault: page ").count(), 80);
    for word in [
        "reserved 80 pages",
        "80 pages committed, 80 written",
        "verified",
        "decommitted",
        "released",
    ] {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

#[test]
fn past_the_limit_is_out_of_pages_and_everything_before_is_intact() {
    let output = demo(&["--touch", "81", "--pages", "100", "--limit", "80"]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    assert!(text.contains("out of pages: page 80 "), "{text}");
    assert!(text.contains("80 pages committed, 80 written") && text.contains("verified"), "{text}");
}

#[test]
fn the_json_report_has_every_number() {
    let report = json(&["--touch", "81", "--pages", "100", "--limit", "80"], 1);
    for (key, value) in
        [("pages", 100), ("limit", 80), ("touched", 80), ("faults", 80), ("committed", 80)]
    {
        assert_eq!(report[key], value, "{key}");
    }
    for (key, value) in
        [("refused", true), ("verified", true), ("decommitted", true), ("released", true)]
    {
        assert_eq!(report[key], value, "{key}");
    }
    assert!(report["page_size"].as_u64().is_some_and(u64::is_power_of_two));
}

#[test]
fn every_order_takes_one_fault_a_page() {
    for order in ["sequential", "reverse", "random"] {
        for touch in ["7", "80"] {
            let report = json(&["--order", order, "--touch", touch], 0);
            assert_eq!(report["faults"].to_string(), touch, "{order}");
            assert_eq!(report["committed"].to_string(), touch, "{order}");
        }
    }
}

#[test]
fn larger_steps_take_fewer_faults() {
    let page_size = json(&[], 0)["page_size"].as_u64().unwrap();
    let step = format!("fixed:{}", 8 * page_size);
    let report = json(&["--step", &step], 0);
    assert_eq!((report["faults"].as_u64(), report["committed"].as_u64()), (Some(10), Some(80)));
    let adaptive = json(&["--step", "adaptive"], 0);
    assert!(adaptive["faults"].as_u64() < Some(40) && adaptive["committed"] == 80);
}

#[test]
fn eager_commits_everything_without_a_fault() {
    let report = json(&["--eager"], 0);
    assert_eq!((report["faults"].as_u64(), report["committed"].as_u64()), (Some(0), Some(80)));
    let refused = json(&["--eager", "--pages", "100", "--limit", "80", "--touch", "81"], 1);
    assert_eq!(
        (refused["refused"].as_bool(), refused["committed"].as_u64()),
        (Some(true), Some(0))
    );
}

#[test]
fn eager_commits_what_is_written_in_reverse_order() {
    let report = json(&["--eager", "--order", "reverse", "--touch", "7"], 0);
    assert_eq!((report["faults"].as_u64(), report["committed"].as_u64()), (Some(0), Some(7)));
}

#[test]
fn a_limit_of_zero_refuses_the_first_page() {
    let report = json(&["--limit", "0", "--touch", "1"], 1);
    assert_eq!((report["touched"].as_u64(), report["refused"].as_bool()), (Some(0), Some(true)));
}

#[test]
fn nothing_is_verified_where_nothing_was_written() {
    for (arguments, code) in [
        (&["--limit", "0", "--touch", "1"][..], 1),
        (&["--touch", "0"], 0),
        (&["--eager", "--limit", "79", "--touch", "80"], 1),
    ] {
        assert_eq!(json(arguments, code)["verified"], false, "{arguments:?}");
        let text = text(&demo(arguments));
        assert!(!text.contains("verified: ") && text.contains("nothing to verify"), "{text}");
    }
}

#[test]
fn sizes_have_units() {
    let count = |step: &str| json(&["--step", step], 0)["faults"].as_u64();
    let expected = (80 * pagewise::page_size()).div_ceil(64 << 10) as u64;
    for step in ["fixed:65536", "fixed:64K", "fixed:64k", "fixed:64KiB"] {
        assert_eq!(count(step), Some(expected), "{step}");
    }
    assert_eq!(count("fixed:1G"), Some(1));
}

#[test]
fn the_demo_runs_on_the_engine_that_is_asked_for_or_says_that_it_is_not_there() {
    for engine in ["auto", "protect", "guard", "userfault"] {
        let output = demo(&["--engine", engine, "--json"]);
        if output.status.code() == Some(3) && engine != "auto" && engine != "protect" {
            assert!(complaint(&output).contains("unsupported here"), "{output:?}");
            assert!(output.stdout.is_empty());
            continue;
        }
        let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!((&report["faults"], &report["engine"]), (&80.into(), &engine.into()));
    }
}

/// Mappings of a demo that has committed more than a thousand scattered pages, and is stopped by a full pipe; none
/// where the engine does not work here.
#[cfg(target_os = "linux")]
fn mappings_in_the_middle(engine: &str) -> Option<usize> {
    use std::io::Read;
    use std::process::Stdio;

    let arguments =
        ["demo", "--engine", engine, "--pages=100000", "--touch=9000", "--order=random"];
    let mut command = crate::pagewise(&arguments);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut output = child.stdout.take().expect("a pipe");
    let has_begun = output.read(&mut [0]).expect("the pipe works") == 1; // 64 KiB are written at once
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id()));
    drop(output);
    child.wait().expect("it ends");
    has_begun.then(|| maps.expect("the demo waits for its pipe").lines().count())
}

#[cfg(target_os = "linux")]
#[test]
fn scattered_pages_take_mappings_with_one_engine_and_none_with_another() {
    let protect = mappings_in_the_middle("protect").expect("this engine works everywhere");
    assert!(protect > 1000, "{protect}");
    let userfault = mappings_in_the_middle("userfault");
    assert!(userfault.is_none_or(|mappings| mappings < 300), "{userfault:?}");
}

/// The rows of the picture. Committed or resident is the same here: some emulators do not tell which.
fn picture(text: &str) -> String {
    let is_row = |line: &&str| line.chars().all(|letter| "·▒█▓".contains(letter));
    text.lines().filter(is_row).collect::<String>().replace('▒', "█")
}

#[test]
fn the_picture_shows_each_page() {
    let touched = |order: &str| picture(&text(&demo(&["--touch", "3", "--order", order])));
    let (few, rest) = ("█".repeat(3), "·".repeat(77));
    assert_eq!(touched("sequential"), format!("{few}{rest}"));
    assert_eq!(touched("reverse"), format!("{rest}{few}"));
}

#[test]
fn a_cell_of_many_pages_shows_the_one_that_was_touched() {
    let output = text(&demo(&["--pages", "100000", "--order", "random", "--touch", "10"]));
    let each = 100_000_usize.div_ceil(1024);
    let mut expected = vec!['·'; 100_000_usize.div_ceil(each)];
    for fault in output.lines().filter_map(|line| line.strip_prefix("page fault: page ")) {
        let page: usize = fault.split(' ').next().unwrap().parse().unwrap();
        expected[page / each] = '█';
    }
    assert_eq!(picture(&output), expected.iter().collect::<String>());
    assert!(expected.contains(&'█') && output.contains(&format!("each cell is {each} pages")));
}

/// A datagram socket in place of stdout: each write is a message of its own.
#[cfg(target_os = "linux")]
#[test]
fn long_output_is_written_in_large_pieces() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
    ours.set_read_timeout(Some(Duration::from_millis(20))).expect("it can be set");
    let mut command = crate::pagewise(&["demo", "--pages", "5000"]);
    let mut child = command.stdout(OwnedFd::from(theirs)).spawn().expect("it starts");
    drop(command);
    let (mut buffer, mut pieces, mut bytes) = (vec![0; 1 << 20], 0, 0);
    loop {
        let ended = child.try_wait().expect("it is our child").is_some();
        match ours.recv(&mut buffer) {
            Ok(0) => break,
            Ok(len) => (pieces, bytes) = (pieces + 1, bytes + len),
            Err(_) if ended => break,
            Err(_) => {}
        }
    }
    assert!(bytes > 5000 * 30, "{bytes}");
    assert!(pieces <= bytes / (32 << 10) + 2, "{bytes} bytes in {pieces} pieces");
}

#[test]
fn bad_arguments_are_code_two_with_a_reason() {
    for (arguments, reason) in [
        (&["--pages", "0"][..], "0"),
        (&["--pages", "18446744073709551615"], "fit an address space"),
        (&["--touch", "81"], "only 80 pages"),
        (&["--limit", "81"], "only 80 pages"),
        (&["--pages", "10", "--limit", "11", "--touch", "5"], "only 10 pages"),
        (&["--eager", "--step", "page"], "--step"),
        (&["--eager", "--order", "random", "--touch", "5"], "--order random"),
        (&["--order", "sideways"], "sideways"),
        (&["--engine", "steam"], "steam"),
        (&["--step", "fixed:0"], "one page or more"),
        (&["--step", "fixed:100"], "whole pages"),
        (&["--step", "fixed:x"], "no size"),
        (&["--step", "fixed:64KB"], "no size"),
        (&["--step", "huge"], "adaptive"),
        (&["--frobnicate"], "frobnicate"),
    ] {
        let output = demo(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let complaint = complaint(&output);
        assert!(complaint.contains(reason), "{complaint}");
        assert!(!complaint.contains("Usage: pagewise <COMMAND>"), "{complaint}");
    }
}

#[test]
fn contradictions_show_the_usage_of_the_subcommand() {
    let output = demo(&["--limit", "81"]);
    assert!(complaint(&output).contains("Usage: pagewise demo [OPTIONS]"), "{output:?}");
}
