//! Compiles the rivals that are written in C, where they can exist: on Linux. GNU libsigsegv is used
//! where it is installed (`libsigsegv-dev`); without it, its rows say that it is absent.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(libsigsegv)");
    println!("cargo::rerun-if-changed=native");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    cc::Build::new().file("native/handler.c").warnings(true).compile("pagewise_bench_handler");
    if libsigsegv_links() {
        cc::Build::new().file("native/sigsegv.c").warnings(true).compile("pagewise_bench_sigsegv");
        println!("cargo::rustc-link-lib=sigsegv");
        println!("cargo::rustc-cfg=libsigsegv");
    } else {
        println!("cargo::warning=GNU libsigsegv is not installed: its rows will say so");
    }
}

/// Whether header and library are installed for the target.
fn libsigsegv_links() -> bool {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let mut compiler = cc::Build::new().get_compiler().to_command();
    compiler.args(["native/probe.c", "-o"]).arg(Path::new(&out).join("probe")).arg("-lsigsegv");
    compiler.output().is_ok_and(|output| output.status.success())
}
