//! Programs in C, C++, Python and Java: compiled against the headers, linked with the library that cargo built beside this
//! test, and run. Each compiler that this machine has compiles all of them, with all warnings as errors.
#![cfg(not(pagewise_model))]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::not_here;

const C: [&str; 2] = ["gcc", "clang"];
const CXX: [&str; 2] = ["g++", "clang++"];

fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// The one of the environment variable, or those of the list that are here. Says which are not.
#[track_caller]
fn compilers(variable: &str, names: &[&str], what: &str) -> Vec<String> {
    if let Ok(compiler) = std::env::var(variable) {
        return vec![compiler];
    }
    let (here, missing): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| is_here(name));
    missing.iter().for_each(|name| not_here(&format!("{what} by {name} (install it)")));
    here.into_iter().map(str::to_string).collect()
}

/// The first one, for what is checked with one.
fn compiler(variable: &str, names: &[&str]) -> Option<String> {
    let named = std::env::var(variable).ok();
    named.or_else(|| names.iter().find(|name| is_here(name)).map(|name| (*name).to_string()))
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

/// The tests in C, and the examples.
fn programs_in_c() -> Vec<PathBuf> {
    let (tests, examples) = (sources("tests", "c"), sources("examples", "c"));
    assert!(tests.len() >= 4 && examples.len() >= 5, "{tests:?}, {examples:?}");
    tests.into_iter().chain(examples).collect()
}

fn name(source: &Path) -> &str {
    source.file_stem().unwrap().to_str().unwrap()
}

#[test]
fn c_programs_link_and_run() {
    let Some(archive) = archive("programs in C") else { return };
    for compiler in compilers("CC", &C, "programs in C") {
        for source in programs_in_c() {
            let output = compile_and_run(&compiler, &["-std=c11", "-pedantic"], &source, &archive);
            match name(&source) {
                "classic" => assert_eq!(output, "the classic works\n"),
                "tries" => assert_eq!(output, "tried\n"),
                "host" => assert_eq!(output, "the host goes on\n"),
                "as_with_libsigsegv" => assert_eq!(output, "as with libsigsegv\n"),
                _ => assert!(!output.is_empty(), "{source:?} says nothing"),
            }
        }
    }
}

/// The lines of the sample: a page fault for each page, then the other path at the limit.
#[test]
fn the_sample_says_page_fault_and_out_of_pages() {
    let Some(archive) = archive("the sample in C") else { return };
    let Some(compiler) = compiler("CC", &C) else {
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
    for compiler in compilers("CXX", &CXX, "programs in C++") {
        for source in sources("examples", "cpp") {
            compile_and_run(&compiler, &["-std=c++17", "-pedantic"], &source, &archive);
        }
    }
}

/// Programs with checks of their own run this often, since each refusal takes longer; and do not count their memory.
const UNDER_A_TOOL: [&str; 2] = ["-DUNDER_A_TOOL", "-DROUNDS=2000"];

/// The sanitizer finds no access to a discarded frame's surroundings: it was told that the frames are gone. Nor does it find
/// anything else, or a leak.
#[test]
fn programs_are_fine_under_the_address_sanitizer() {
    let Some(archive) = archive("C under AddressSanitizer") else { return };
    let (Some(c), Some(cxx)) = (compiler("CC", &C), compiler("CXX", &CXX)) else {
        return not_here("C under AddressSanitizer (there is no compiler: install gcc and g++)");
    };
    let options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
    let programs = programs_in_c().into_iter().map(|source| (&c, "-std=c11", source));
    let others = sources("examples", "cpp").into_iter().map(|source| (&cxx, "-std=c++17", source));
    for (compiler, standard, source) in programs.chain(others) {
        let options = [&[standard], &options[..], &UNDER_A_TOOL].concat();
        let program = match compile(compiler, &options, &source, &archive) {
            Ok(program) => program,
            Err(output) if String::from_utf8_lossy(&output.stderr).contains("asan") => {
                return not_here(
                    "C under AddressSanitizer (the compiler has none: install libasan)",
                );
            }
            Err(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        };
        // Variables on the stack, or kept elsewhere to find uses after the function's return.
        for frames_elsewhere in [0, 1] {
            let options = format!(
                "handle_segv=0:handle_sigbus=0:use_sigaltstack=0:allow_user_segv_handler=1:\
                 detect_leaks=1:detect_stack_use_after_return={frames_elsewhere}"
            );
            let output = Command::new(&program).env("ASAN_OPTIONS", options).output().unwrap();
            assert!(output.status.success(), "{source:?}: {output:?}");
        }
    }
}

/// Valgrind serves page faults and discards frames as the processor does. It reports each first touch, but no other
/// access, no use of memory that holds nothing, and no leak.
#[test]
fn valgrind_follows_page_faults_and_tries() {
    let Some(archive) = archive("C under valgrind") else { return };
    let Some(compiler) = compiler("CC", &C).filter(|_| is_here("valgrind")) else {
        return not_here("C under valgrind (install gcc, valgrind and libc6-dbg)");
    };
    // These two count what a refused copy has copied, which is wrong there.
    let cannot = |source: &PathBuf| ["classic", "growing_array"].contains(&name(source));
    for source in programs_in_c().into_iter().filter(|source| !cannot(source)) {
        let options = [&["-std=c11"], &UNDER_A_TOOL[..]].concat();
        let program = compile(&compiler, &options, &source, &archive)
            .unwrap_or_else(|output| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let output = Command::new("valgrind")
            .args(["--vex-iropt-register-updates=allregs-at-mem-access", "--error-limit=no"])
            .args(["--leak-check=full", "--show-leak-kinds=definite,indirect,possible"])
            .arg(&program)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{source:?}: {text}");
        let lines: Vec<&str> =
            text.lines().map(|line| line.split_once("== ").map_or("", |(_, line)| line)).collect();
        // Each report is a paragraph.
        for report in lines.split(|line| line.trim().is_empty()).map(|lines| lines.join("\n")) {
            let is_in_a_region =
                ["is not stack'd, malloc'd or (recently) free'd", "anonymous segment"]
                    .iter()
                    .any(|place| report.contains(place));
            let is_a_touch = report.contains(" of size ") && is_in_a_region;
            // The one program that has these on purpose.
            let is_meant = name(&source) == "as_with_libsigsegv"
                && (report.contains("can't grow stack to")
                    || report.starts_with("Syscall param read("));
            let is_bad = [
                "Invalid ",
                "uninitialised",
                "Mismatched",
                "overlap",
                "Syscall param",
                "terminating",
            ]
            .iter()
            .any(|sign| report.contains(sign));
            assert!(is_a_touch || is_meant || !is_bad, "{source:?}: {report}\n\n{text}");
        }
        // Without a loss, it says so in one line, or counts nothing.
        for kind in ["definitely", "indirectly", "possibly"] {
            let nothing = format!("{kind} lost: 0 bytes in 0 blocks");
            assert!(
                text.contains(&nothing) || text.contains("no leaks are possible"),
                "{source:?}: {text}"
            );
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
