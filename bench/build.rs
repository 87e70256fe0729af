//! Compiles the rivals that are written in C, where they can exist: on Linux. GNU libsigsegv is used
//! where it is installed (`libsigsegv-dev`); without it, its rows say that it is absent. Also notes from which
//! commit, with which compiler and in which profile the benchmarks are built.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(libsigsegv)");
    println!("cargo::rerun-if-changed=native");
    note_origin();
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    cc::Build::new().file("native/handler.c").warnings(true).compile("pagewise_bench_handler");
    cc::Build::new().file("native/jump.c").warnings(true).compile("pagewise_bench_jump");
    if libsigsegv_links() {
        cc::Build::new().file("native/sigsegv.c").warnings(true).compile("pagewise_bench_sigsegv");
        println!("cargo::rustc-link-lib=sigsegv");
        println!("cargo::rustc-cfg=libsigsegv");
    } else {
        println!("cargo::warning=GNU libsigsegv is not installed: its rows will say so");
    }
}

fn note_origin() {
    let unknown = || "unknown".to_owned();
    let commit = output("git", &["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]);
    let compiler = output(&env::var("RUSTC").expect("cargo sets it"), &["--version"]);
    println!("cargo::rustc-env=PAGEWISE_COMMIT={}", commit.unwrap_or_else(unknown));
    println!("cargo::rustc-env=PAGEWISE_COMPILER={}", compiler.unwrap_or_else(unknown));
    println!("cargo::rustc-env=PAGEWISE_PROFILE={}", profile());
    // A commit is noted in this file; a change that is not committed changes one in these folders.
    if let Some(log) = output("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    for folder in ["../src", "src", "Cargo.toml", "../Cargo.toml"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}

/// The name of the profile, which is that of the folder: cargo's variable has that of the one it inherits from.
fn profile() -> String {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let build = Path::new(&out).ancestors().find(|folder| folder.ends_with("build"));
    let name =
        build.and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
    let optimised = env::var("OPT_LEVEL").unwrap_or_default();
    format!("profile {}, opt-level {optimised}", name.unwrap_or("unknown"))
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Whether header and library are installed for the target.
fn libsigsegv_links() -> bool {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let mut compiler = cc::Build::new().get_compiler().to_command();
    compiler.args(["native/probe.c", "-o"]).arg(Path::new(&out).join("probe")).arg("-lsigsegv");
    compiler.output().is_ok_and(|output| output.status.success())
}
