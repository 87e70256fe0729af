//! `pagewise doctor`.

use crate::{json, run, text};

#[test]
fn the_doctor_tries_every_engine() {
    let findings = json(&["doctor"], 0);
    assert_eq!(findings["page_size"], pagewise::page_size());
    assert_eq!(findings["reserve_granularity"], pagewise::reserve_granularity());
    let engines = findings["engines"].as_object().expect("engines");
    assert_eq!(engines.keys().collect::<Vec<_>>(), ["auto", "guard", "protect", "userfault"]);
    // These work everywhere.
    assert!(engines["auto"].is_null() && engines["protect"].is_null(), "{engines:?}");
    for (engine, fault) in engines {
        let demo = run(&["demo", "--engine", engine]);
        assert_eq!(demo.status.code(), Some(if fault.is_null() { 0 } else { 3 }), "{engine}");
    }
}

#[test]
fn the_doctor_reads_the_systems_settings() {
    let findings = json(&["doctor"], 0);
    if cfg!(target_os = "linux") {
        let expected =
            std::fs::read_to_string("/proc/sys/vm/overcommit_memory").expect("it is there");
        assert_eq!(findings["settings"]["vm.overcommit_memory"], expected.trim());
        assert!(findings["settings"]["limit of locked memory (ulimit -l)"].is_string());
    }
    let text = text(&run(&["doctor"]));
    assert!(text.contains("engine protect") && text.contains(" works\n"), "{text}");
}
