//! The header and the library say the same: every function with its arguments, every structure with its layout, every
//! constant; and the shared library exports nothing else.
#![cfg(not(pagewise_model))]

mod common;

use std::collections::BTreeMap;
use std::mem::{align_of, offset_of};
use std::path::Path;
use std::process::Command;

use common::not_here;
use pagewise_c::*;

/// A function's types: the result first, then the arguments.
type Functions = BTreeMap<String, Vec<String>>;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn without_comments(text: &str, begin: &str, end: &str) -> String {
    let mut parts = text.split(begin);
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |text, part| text + " " + part.split_once(end).map_or("", |(_, rest)| rest))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A C declaration's type: without the name at its end.
fn c_type(declaration: &str) -> String {
    let spaced = words(&declaration.replace('*', " * "));
    let (kind, name) = spaced.rsplit_once(' ').unwrap_or((&spaced, ""));
    let is_name = name.starts_with(|letter: char| letter.is_alphabetic()) && !kind.is_empty();
    if is_name { kind.to_string() } else { spaced.clone() }
}

/// The functions of the header, for this system.
fn of_the_header() -> Functions {
    let text = without_comments(&read("include/pagewise.h"), "/*", "*/");
    // The one function that differs between systems.
    let (before, rest) = text.split_once("#ifdef _WIN32").unwrap();
    let (windows, rest) = rest.split_once("#else").unwrap();
    let (unix, rest) = rest.split_once("#endif").unwrap();
    let text = [before, if cfg!(windows) { windows } else { unix }, rest].concat();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| format!("{line} "))
        .collect();
    let mut functions = Functions::new();
    for statement in code.split([';', '{', '}']).map(words).filter(|text| !text.contains("typedef"))
    {
        let Some((head, arguments)) = statement.split_once('(') else { continue };
        let Some((_, name)) = head
            .replace('*', " * ")
            .rsplit_once(' ')
            .map(|(kind, name)| (kind.to_string(), name.to_string()))
        else {
            continue;
        };
        if !name.starts_with("pagewise_") {
            continue;
        }
        let mut types = vec![c_type(head)];
        let arguments = arguments.trim_end_matches(')');
        if arguments != "void" {
            types.extend(arguments.split(',').map(c_type));
        }
        functions.insert(name, types);
    }
    functions
}

/// The C type of a Rust one.
fn c_of(rust: &str) -> String {
    let rust = rust.trim();
    if let Some(pointed) = rust.strip_prefix("*mut ") {
        return format!("{} *", c_of(pointed));
    }
    if let Some(pointed) = rust.strip_prefix("*const ") {
        return format!("const {} *", c_of(pointed));
    }
    let simple = match rust {
        "usize" => "size_t",
        "c_int" => "int",
        "c_uint" => "unsigned",
        "c_char" => "char",
        "c_void" => "void",
        "Status" => "pagewise_status",
        "DemandRegion" => "pagewise_region",
        "Reservation" => "pagewise_reservation",
        "Budget" => "pagewise_budget",
        "BudgetGuard" => "pagewise_taken",
        "Option<Report>" => "pagewise_report",
        "Arena" => "pagewise_arena",
        "PageMap" => "pagewise_page_map",
        "PageRun" => "pagewise_page_run",
        "Options" => "pagewise_options",
        "Stats" => "pagewise_stats",
        "Event" => "pagewise_event",
        "Refusal" => "pagewise_refusal",
        "Option<Function>" => "pagewise_function",
        other => panic!("no C type for {other}"),
    };
    simple.to_string()
}

/// The functions of the library's source, for this system.
fn of_the_library() -> Functions {
    let mut functions = Functions::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in text.split("#[unsafe(no_mangle)]").skip(1) {
            let (_, part) = part.split_once("fn ").unwrap();
            let (name, rest) = part.split_once('(').unwrap();
            let (arguments, rest) = rest.split_once(')').unwrap();
            let (result, _) = rest.split_once('{').unwrap();
            let result = result.trim().strip_prefix("->").map_or("void".into(), c_of);
            let is_other = |part: &str| part.starts_with("exception:") != cfg!(windows);
            if name == "pagewise_try_handle" && is_other(&words(arguments)) {
                continue;
            }
            let arguments =
                arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty());
            let types = arguments.map(|argument| c_of(argument.split_once(':').unwrap().1));
            functions.insert(name.to_string(), [result].into_iter().chain(types).collect());
        }
    }
    functions
}

#[test]
fn every_function_has_the_same_arguments_in_both() {
    let (header, library) = (of_the_header(), of_the_library());
    let names = |functions: &Functions| functions.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&header), names(&library));
    assert!(header.len() > 60, "{} functions", header.len());
    for (name, types) in &library {
        assert_eq!(&header[name], types, "{name}");
    }
}

fn size_of_field<T, F>(_: impl Fn(&T) -> *const F) -> usize {
    size_of::<F>()
}

/// `_Static_assert` for each field and constant, from what the Rust compiler made of them.
fn assertions() -> String {
    let mut text = String::from("#include \"pagewise.h\"\n");
    let mut check = |condition: String| {
        text += &format!("_Static_assert({condition}, \"{}\");\n", condition.replace('"', ""));
    };
    macro_rules! structures {
        ($($rust:ident = $c:literal { $($field:ident),* })*) => { $(
            check(format!("sizeof({}) == {}", $c, size_of::<$rust>()));
            check(format!("_Alignof({}) == {}", $c, align_of::<$rust>()));
            $(
                check(format!("offsetof({}, {}) == {}", $c, stringify!($field), offset_of!($rust, $field)));
                let size = size_of_field(|structure: &$rust| &raw const structure.$field);
                check(format!("sizeof((({} *)0)->{}) == {size}", $c, stringify!($field)));
            )*
            // All of the fields, and no other: together they are as long as the structure, but for the end's padding.
            let fields: &[(usize, &str)] = &[$((offset_of!($rust, $field), stringify!($field))),*];
            let (_, last) = fields.iter().max().unwrap();
            check(format!("sizeof({0}) - offsetof({0}, {last}) <= 8", $c));
        )* };
    }
    structures! {
        Options = "pagewise_options" {
            size, limit, at_least, align, guard_pages, step, events, budget, name, filter, filter_context, engine,
            huge_pages, no_dump, reserved
        }
        Stats = "pagewise_stats" { faults, refused, raced, events_lost, committed, peak, limit }
        Event = "pagewise_event" { offset, start, len, access, refused }
        Fault = "pagewise_fault" { address, offset, access, reserved, pages }
        Refusal = "pagewise_refusal" { region, offset, reason, system_error, used, limit }
        PageRun = "pagewise_page_run" { first, count, state }
    }
    let mut constants = constants::CONSTANTS.to_vec();
    let statuses = [
        ("PAGEWISE_OK", Status::Ok),
        ("PAGEWISE_ERROR_ARGUMENT", Status::Argument),
        ("PAGEWISE_ERROR_LIMIT", Status::Limit),
        ("PAGEWISE_ERROR_MEMORY", Status::Memory),
        ("PAGEWISE_ERROR_SYSTEM", Status::System),
        ("PAGEWISE_ERROR_PANIC", Status::Panic),
        ("PAGEWISE_ERROR_FILTER", Status::Filter),
        ("PAGEWISE_ERROR_UNSUPPORTED", Status::Unsupported),
    ];
    constants.extend(statuses.map(|(name, status)| (name, status as i64)));
    constants.iter().for_each(|(name, number)| check(format!("{name} == {number}")));
    // And the header has no other.
    let header = without_comments(&read("include/pagewise.h"), "/*", "*/");
    let mut in_header: Vec<&str> = header
        .split(|letter: char| !letter.is_ascii_uppercase() && letter != '_')
        .filter(|word| word.starts_with("PAGEWISE_") && *word != "PAGEWISE_H")
        .collect();
    let mut in_library: Vec<&str> = constants.iter().map(|(name, _)| *name).collect();
    in_header.sort_unstable();
    in_header.dedup();
    in_library.sort_unstable();
    assert_eq!(in_header, in_library);
    check(format!("sizeof(pagewise_status) == {}", size_of::<Status>()));
    check(format!("PAGEWISE_ABI_VERSION == {}", pagewise_abi_version()));
    text
}

#[test]
fn every_structure_and_constant_is_the_same_in_both() {
    if cfg!(not(all(unix, target_arch = "x86_64"))) {
        return not_here("the layout of structures (only with a native compiler)");
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return not_here("the layout of structures (there is no C compiler: install gcc)");
    }
    let source = std::env::current_exe().unwrap().with_extension("layout.c");
    std::fs::write(&source, assertions()).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let output = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
        .args([&include, &source])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_shared_library_exports_what_the_header_has_and_nothing_else() {
    let Some(library) = common::built("libpagewise_c.so") else {
        return not_here("exported symbols (no shared library of ELF was built)");
    };
    let Ok(output) = Command::new("nm").args(["-D", "--defined-only"]).arg(library).output() else {
        return not_here("exported symbols (there is no nm: install binutils)");
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut symbols: Vec<&str> =
        text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    symbols.sort_unstable();
    assert_eq!(symbols, of_the_header().keys().map(String::as_str).collect::<Vec<_>>());
}
