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
fn json_is_an_array_of_comparisons_whose_ratio_is_ours_divided_by_the_rivals() {
    let rows = rows("churn");
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!((&row["suite"], row["case"].is_string()), (&"churn".into(), true));
        let number = |key: &str| row[key].as_f64();
        if let (Some(ours), Some(rival)) = (number("ours_ns"), number("rival_ns")) {
            let ratio = number("ratio").unwrap();
            assert!((ratio - ours / rival).abs() < 1e-9, "{row}");
            assert!(number("ratio_min").unwrap() <= ratio && ratio <= number("ratio_max").unwrap());
        } else {
            let note = row["note"].as_str().unwrap();
            assert!(note.contains("ABSENT") || note.contains("FAILED"), "{row}");
        }
    }
}

#[test]
fn scattered_first_touches_are_measured_with_page_tables_and_mappings() {
    let output = run(&["sparse", "--tiny", "--json", "--case", "100 first touches"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        assert!(row["case"].as_str().unwrap().starts_with("100 first touches over"), "{row}");
        if cfg!(target_os = "linux") {
            let mappings = |side: &str| row[side]["mappings"].as_u64();
            assert!(mappings("ours_footprint").is_some_and(|count| count > 0), "{row}");
            assert_eq!(mappings("rival_footprint").is_some(), row["rival_ns"].is_number(), "{row}");
        }
    }
}

#[test]
fn a_case_that_does_not_exist_is_an_error() {
    let output = run(&["sparse", "--tiny", "--case", "no such case"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no such case"));
}

#[test]
fn every_suite_measures_ours_in_every_case() {
    for row in rows("all") {
        let excused = row["note"].as_str().is_some_and(|note| note.starts_with("ours: ABSENT"));
        assert!(row["ours_ns"].is_number() || excused, "{row}");
    }
}

#[test]
fn a_chart_is_written_for_each_suite_and_one_for_all_of_them() {
    let directory = std::env::temp_dir().join(format!("pagewise-bench-{}", std::process::id()));
    let charts = |suite| {
        let output = run(&[suite, "--tiny", "--plot", directory.to_str().unwrap()]);
        assert!(output.status.success());
        let mut names = Vec::new();
        for file in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let chart = std::fs::read_to_string(file.path()).unwrap();
            assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
            names.push(file.file_name().into_string().unwrap());
        }
        std::fs::remove_dir_all(&directory).unwrap();
        names
    };
    assert_eq!(charts("churn"), ["churn.svg"]);
    let all = charts("all");
    assert!(all.len() == 11 && all.contains(&"summary.svg".into()), "{all:?}");
}

#[test]
fn an_unknown_suite_is_an_error_that_lists_the_known_ones() {
    let output = run(&["fil", "--tiny"]);
    assert!(!output.status.success());
    let cried = String::from_utf8_lossy(&output.stderr);
    assert!(cried.contains("fill, fault, attempt, sparse") && cried.contains("all"), "{cried}");
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
