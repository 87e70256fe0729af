//! What the program prints, run as a person runs it, on so little work that the numbers mean nothing.

use std::process::Command;

use serde_json::Value;

fn run(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_pagewise-bench")).args(arguments).output().unwrap()
}

fn rows(suite: &str) -> Vec<Value> {
    let output = run(&[suite, "--tiny", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("nothing but an array is printed")
}

#[test]
fn json_is_an_array_of_comparisons_with_intervals_verdicts_and_the_machine() {
    let rows = rows("churn");
    assert!(!rows.is_empty());
    for row in &rows {
        assert_eq!((&row["suite"], row["case"].is_string()), (&"churn".into(), true));
        assert!(row["unit"].is_string() && row.get("ours_ns").is_none(), "{row}");
        assert!(row["machine"]["kernel"].is_string() && row["machine"]["seed"].is_u64(), "{row}");
        assert!(row["noise"]["case"].is_string(), "{row}");
        let number = |key: &str| row[key].as_f64();
        if let (Some(_), Some(_)) = (number("ours"), number("theirs")) {
            let ratio = number("ratio").unwrap();
            assert!(number("low").unwrap() <= ratio && ratio <= number("high").unwrap());
        } else {
            let note = row["note"].as_str().unwrap();
            assert!(note.contains("ABSENT") || note.contains("FAILED"), "{row}");
        }
        // Two rounds allow no verdict.
        let bound = row["at_most"].is_number();
        assert_eq!(
            row["verdict"],
            if bound { "inconclusive".into() } else { Value::Null },
            "{row}"
        );
    }
    let controls: Vec<_> =
        rows.iter().filter(|row| row["rival"] == "pagewise again (A/A)").collect();
    assert_eq!(controls.len(), 1);
    assert_eq!(controls[0]["ratio"], controls[0]["noise"]["ratio"]);
}

#[test]
fn a_run_can_be_repeated_in_the_same_order_by_its_seed() {
    let output = run(&["attempt", "--tiny", "--seed", "4711"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.lines().next().unwrap().ends_with("seed 4711"), "{said}");
}

#[test]
fn a_machine_that_cannot_tell_the_same_from_itself_gives_no_verdict_and_names_the_row() {
    // The smallest runs take microseconds: some of a few is beyond a twentieth.
    let noisy = (0..10).find_map(|seed| {
        let output = run(&["attempt", "--tiny", "--seed", &seed.to_string()]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.contains("too noisy for a verdict: attempt: refused").then_some(said)
    });
    let said = noisy.expect("microseconds are never the same ten times");
    assert!(!said.contains('✓') && !said.contains('✗'), "{said}");
}

#[test]
fn scattered_first_touches_are_measured_with_the_slowest_page_tables_and_mappings() {
    let output = run(&["touches", "--tiny", "--json", "--case", "100 first touches"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!rows.is_empty());
    let case = |row: &Value| row["case"].as_str().unwrap().to_owned();
    assert!(rows.iter().any(|row| case(row) == "100 first touches over 1 GiB: worst touch"));
    for row in rows {
        assert!(case(&row).starts_with("100 first touches over"), "{row}");
        if cfg!(target_os = "linux") {
            let mappings = |side: &str| row[side]["mappings"].as_u64();
            assert!(mappings("ours_footprint").is_some_and(|count| count > 0), "{row}");
            assert_eq!(mappings("rival_footprint").is_some(), row["theirs"].is_number(), "{row}");
        }
    }
}

#[test]
fn tables_are_written_under_the_machines_name_and_the_old_ones_of_another_machine_stay() {
    let folder = std::env::temp_dir().join(format!("pagewise-report-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let document = folder.join("benchmarks.md");
    let other = "### Loom\n\n#### attempt\n\nslowly\n";
    let text =
        format!("before\n<!-- measured: begin -->\n\n{other}\n<!-- measured: end -->\nafter\n");
    std::fs::write(&document, text).unwrap();
    let (plots, to) = (folder.join("plots"), document.to_str().unwrap());
    let output = run(&["attempt", "--tiny", "--report", to, "--plot", plots.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written = std::fs::read_to_string(&document).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(written.contains(other) && written.contains("The same twice (A/A): "), "{written}");
    assert!(written.contains("![attempt](plots/attempt.svg)"), "{written}");
    assert_eq!(written.matches("#### attempt").count(), 2, "{written}");
}

#[test]
fn a_case_that_does_not_exist_is_an_error() {
    let output = run(&["sparse", "--tiny", "--case", "no such case"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no such case"));
}

/// Runs suites and returns what they print, and the names of the charts that they write.
fn rows_and_charts(suite: &str) -> (Vec<Value>, Vec<String>) {
    let folder = std::env::temp_dir().join(format!("pagewise-{suite}-{}", std::process::id()));
    let output = run(&[suite, "--tiny", "--json", "--plot", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut names = Vec::new();
    for file in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let chart = std::fs::read_to_string(file.path()).unwrap();
        assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
        names.push(file.file_name().into_string().unwrap());
    }
    std::fs::remove_dir_all(&folder).unwrap();
    (serde_json::from_slice(&output.stdout).expect("nothing but an array is printed"), names)
}

#[test]
fn every_suite_measures_ours_in_every_case_and_a_chart_is_written_for_each_and_one_for_all() {
    let (rows, charts) = rows_and_charts("all");
    for row in rows {
        let excused = row["note"].as_str().is_some_and(|note| note.starts_with("ours: ABSENT"));
        assert!(row["ours"].is_number() || excused, "{row}");
    }
    assert!(charts.len() == 19 && charts.contains(&"summary.svg".into()), "{charts:?}");
}

#[test]
fn one_suite_draws_one_chart() {
    assert_eq!(rows_and_charts("attempt").1, ["attempt.svg"]);
}

#[test]
fn an_unknown_suite_is_an_error_that_lists_the_known_ones() {
    let output = run(&["fil", "--tiny"]);
    assert!(!output.status.success());
    let cried = String::from_utf8_lossy(&output.stderr);
    assert!(
        cried.contains("fill, small, fault, attempt, sparse") && cried.contains("all"),
        "{cried}"
    );
}

#[test]
fn the_front_pages_chart_shows_the_numbers_of_the_tables() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = std::env::temp_dir().join(format!("pagewise-front-{}", std::process::id()));
    let document = root.join("docs/benchmarks.md");
    let output = run(&["front", document.to_str().unwrap(), folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let drawn = std::fs::read_to_string(folder.join("front.svg")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let committed =
        std::fs::read_to_string(root.join("docs/plots/front.svg")).unwrap().replace('\r', "");
    assert_eq!(
        drawn, committed,
        "draw it again: pagewise-bench front docs/benchmarks.md docs/plots"
    );
}
