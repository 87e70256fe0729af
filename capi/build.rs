//! Keeps the shared library in the process once it is loaded: the fault handler lives in it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if matches!(system.as_str(), "linux" | "freebsd") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
