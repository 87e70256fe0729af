//! Programs in C, C++ and Python: compiled against the headers, linked with the library that cargo built beside this test,
//! and run. Each compiler that this machine has compiles all of them, with all warnings as errors.
#![cfg(not(pagewise_model))]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::not_here;

const C: [&str; 2] = ["gcc", "clang"];
const CXX: [&str; 2] = ["g++", "clang++"];

/// The one of the environment variable, or those of the list that are here.
fn compilers(variable: &str, names: &[&str]) -> Vec<String> {
    if let Ok(compiler) = std::env::var(variable) {
        return vec![compiler];
    }
    let is_here = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    names.iter().filter(is_here).map(|name| (*name).to_string()).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Compiles a program, or says why not.
fn compile(
    compiler: &str,
    options: &[&str],
    source: &Path,
    archive: &Path,
) -> Result<PathBuf, Output> {
    let name = source.file_stem().unwrap().to_str().unwrap();
    // A folder of its own for each call: tests run at the same time, with the same sources.
    let kind =
        format!("{}-{}", compiler.replace('/', "-"), options.concat().replace(['/', '='], "-"));
    let folder = archive.parent().unwrap().join("pagewise-programs").join(kind);
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join(name);
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-g"])
        .args(options)
        .arg("-I")
        .arg(self::folder("include"))
        .arg(source)
        .arg(archive)
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    if output.status.success() { Ok(program) } else { Err(output) }
}

fn compile_and_run(compiler: &str, options: &[&str], source: &Path, archive: &Path) -> String {
    let program = compile(compiler, options, source, archive)
        .unwrap_or_else(|output| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let output = Command::new(&program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{compiler}, {source:?}: {output:?}");
    text
}

/// The static library; says so where there is none.
#[track_caller]
fn archive(what: &str) -> Option<PathBuf> {
    if cfg!(not(all(unix, target_arch = "x86_64"))) {
        not_here(&format!("{what} (only with a native compiler)"));
        return None;
    }
    // Not built as a dependency of a test: only the Rust library is.
    let archive = common::built("libpagewise_c.a");
    if archive.is_none() {
        not_here(&format!("{what} (build the workspace first: no static library)"));
    }
    archive
}

fn sources(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(self::folder(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut sources: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    sources.sort();
    sources
}

#[test]
fn c_programs_link_and_run() {
    let Some(archive) = archive("programs in C") else { return };
    let compilers = compilers("CC", &C);
    if compilers.is_empty() {
        return not_here("programs in C (there is no C compiler: install gcc)");
    }
    for compiler in compilers {
        let run = |source: &Path| {
            compile_and_run(&compiler, &["-std=c11", "-pedantic"], source, &archive)
        };
        assert_eq!(run(&folder("tests/classic.c")), "the classic works\n");
        assert_eq!(run(&folder("tests/tries.c")), "tried\n");
        let examples = sources("examples", "c");
        assert!(examples.len() >= 5, "{examples:?}");
        examples
            .iter()
            .for_each(|example| assert!(!run(example).is_empty(), "{example:?} says nothing"));
    }
}

/// The lines of the sample: a page fault for each page, then the other path at the limit.
#[test]
fn the_sample_says_page_fault_and_out_of_pages() {
    let Some(archive) = archive("the sample in C") else { return };
    let Some(compiler) = compilers("CC", &C).into_iter().next() else {
        return not_here("the sample in C (there is no C compiler: install gcc)");
    };
    let source = folder("examples/reserving_and_committing.c");
    let text = compile_and_run(&compiler, &["-std=c11", "-DSAMPLE"], &source, &archive);
    let page = pagewise::page_size();
    let (unlimited, limited) = text.split_once("And with a limit of 20 pages:\n").unwrap();
    let faults = |text: &str| text.matches("page fault: committing another page\n").count();
    assert_eq!((faults(unlimited), faults(limited)), (80, 20));
    assert!(!unlimited.contains("out of pages"), "{unlimited}");
    assert!(unlimited.contains(&format!("80 pages are committed, {} bytes written\n", 80 * page)));
    assert_eq!(limited.matches("page fault: out of pages\n").count(), 1);
    let stopped =
        format!("stopped: page at offset {:#x} refused by the region's filter\n", 20 * page);
    assert!(limited.contains(&stopped), "{limited}");
    assert!(limited.contains(&format!("20 pages are committed, {} bytes written\n", 20 * page)));
    assert_eq!(text.matches("0 bytes are committed after the decommit\n").count(), 2);
}

#[test]
fn c_plus_plus_programs_link_and_run() {
    let Some(archive) = archive("programs in C++") else { return };
    let compilers = compilers("CXX", &CXX);
    if compilers.is_empty() {
        return not_here("programs in C++ (there is no C++ compiler: install g++)");
    }
    for compiler in compilers {
        for source in sources("examples", "cpp") {
            compile_and_run(&compiler, &["-std=c++17", "-pedantic"], &source, &archive);
        }
    }
}

/// The sanitizer finds no access to a discarded frame's surroundings: it was told that the frames are gone.
#[test]
fn refused_tries_are_fine_under_the_address_sanitizer() {
    let Some(archive) = archive("C under AddressSanitizer") else { return };
    let Some(compiler) = compilers("CC", &C).into_iter().next() else {
        return not_here("C under AddressSanitizer (there is no C compiler: install gcc)");
    };
    let options = ["-std=c11", "-fsanitize=address"];
    for source in ["tests/tries.c", "tests/classic.c", "examples/linear_memory.c"] {
        let program = match compile(&compiler, &options, &folder(source), &archive) {
            Ok(program) => program,
            Err(output) if String::from_utf8_lossy(&output.stderr).contains("asan") => {
                return not_here(
                    "C under AddressSanitizer (the compiler has none: install libasan)",
                );
            }
            Err(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        };
        // Variables that are kept elsewhere than on the stack are collected after each refusal, which takes long.
        let modes: &[_] = if source.contains("tries") { &[0] } else { &[0, 1] };
        for frames_elsewhere in modes {
            // Rust's own allocations that live as long as the process are no leaks of the program.
            let options = format!(
                "handle_segv=0:handle_sigbus=0:use_sigaltstack=0:allow_user_segv_handler=1:\
                 detect_leaks=0:detect_stack_use_after_return={frames_elsewhere}"
            );
            let output = Command::new(&program).env("ASAN_OPTIONS", options).output().unwrap();
            assert!(output.status.success(), "{source}: {output:?}");
        }
    }
}

#[test]
fn python_grows_a_buffer_in_place() {
    let name =
        format!("{}pagewise_c{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let Some(library) = common::built(&name) else {
        return not_here("a region in Python (no shared library was built)");
    };
    if std::env::var_os("PAGEWISE_TEST_RUNNER").is_some() || cfg!(windows) {
        return not_here("a region in Python (only a native one)");
    }
    let mut python = Command::new("python3");
    let Ok(output) = python.arg(folder("examples/grow_in_place.py")).arg(library).output() else {
        return not_here("a region in Python (there is no python3)");
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("refused: limit of") && text.ends_with("grown in place\n"), "{text}");
}
