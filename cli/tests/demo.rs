//! `pagewise demo`, as a person or a script runs it.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
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
    command.arg("demo").args(arguments).output().expect("the demo starts")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is text")
}

/// The only thing on stdout is one object.
fn json(arguments: &[&str], code: i32) -> Value {
    let output = demo(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else")
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
    assert!(!text.contains('\x1b'), "no colours where nobody sees them");
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
fn a_limit_of_zero_refuses_the_first_page() {
    let report = json(&["--limit", "0", "--touch", "1"], 1);
    assert_eq!((report["touched"].as_u64(), report["refused"].as_bool()), (Some(0), Some(true)));
}

#[test]
fn bad_arguments_are_code_two_with_a_reason() {
    for (arguments, reason) in [
        (&["--pages", "0"][..], "0"),
        (&["--pages", "18446744073709551615"], "fit an address space"),
        (&["--touch", "81"], "only 80 pages"),
        (&["--order", "sideways"], "sideways"),
        (&["--step", "fixed:0"], "above zero"),
        (&["--step", "fixed:x"], "above zero"),
        (&["--step", "huge"], "adaptive"),
        (&["--frobnicate"], "frobnicate"),
    ] {
        let output = demo(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
    }
}
