//! What the tests of the C interface share.

/// Says aloud that something is not shown here: see the function of the same name in the library's
/// `tests/common`.
#[track_caller]
pub fn not_here(what: &str) {
    use std::io::Write;
    // (The runner captures `eprintln!`, and shows it of tests that fail only.)
    let _ = std::io::stderr().write_all(format!("NOT TESTED HERE: {what}\n").as_bytes());
    if let Some(list) = std::env::var_os("PAGEWISE_SKIPS") {
        let file = std::panic::Location::caller().file().replace('\\', "/");
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        // One call: tests and their children append at the same time.
        list.write_all(format!("{file}: {what}\n").as_bytes()).unwrap();
    }
}

/// Where cargo puts what it builds, with this test's profile and target.
#[allow(dead_code)] // not every test looks there
pub fn built(name: &str) -> Option<std::path::PathBuf> {
    let program = std::env::current_exe().unwrap();
    let deps = program.parent().unwrap();
    [deps.parent().unwrap().join(name), deps.join(name)].into_iter().find(|path| path.exists())
}
