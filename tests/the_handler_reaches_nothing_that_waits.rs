//! The machine code of this program that the fault handler can reach contains no allocation, lock, panic,
//! formatting or lazy thread-local state. Checked in release builds, since every addition in a debug build can
//! panic.
//!
//! The walk follows calls and jumps from the handler. Six calls go through pointers: one from the registry to the owner of
//! the address (a region, a file in memory, a paged region), from where further walks start; one to a region's filter, and
//! one to a region's store, whose authors promised what a handler may do (from `FileStore`, walks start, too); one to the handlers before ours, and one to the function that gets the line about a
//! refusal, which are not part of pagewise. In a child that was not told of its fork, one more leads to what would have been
//! done then, which is made for handlers of forks.
//!
//! A program of its own, since its machine code is what it looks at.
#![cfg(not(pagewise_model))]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const ROOTS: [&str; 6] = [
    "pagewise::fault::handler::handler",
    "pagewise::demand::serving::serve",
    "pagewise::mapped_file::serving::serve",
    "pagewise::paged::serving::serve",
    "<pagewise::paged::file_store::FileStore as pagewise::paged::store::PageStore>::read",
    "<pagewise::paged::file_store::FileStore as pagewise::paged::store::PageStore>::write",
];

/// Every function outside of this program that the handler may call. All of them are
/// async-signal-safe by POSIX, or touch nothing but their arguments and the thread's own errno.
const ALLOWED: [&str; 26] = [
    "__errno_location",
    "clock_gettime",
    "fstat",
    "getrlimit", // no word in POSIX, but nothing more than the system call
    "ioctl",     // no word in POSIX, but nothing more than the system call (userfaultfd)
    "madvise",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
    "mmap",
    "mprotect",
    "munmap",
    "prctl",
    "pthread_self",
    "pthread_sigmask",
    "raise",
    "sched_getcpu", // no word in POSIX: reads what the kernel keeps for the thread, or asks it
    "sched_yield",
    "sigaction",
    "sigaddset",
    "sigdelset",
    "sigfillset",
    "sigismember",
    // For openat, read, pwrite, close, nanosleep, ppoll and write, which must be no cancellation points.
    "syscall",
    "sysconf",
];

const FORBIDDEN: [&str; 10] = [
    "alloc::",
    "__rust_",
    "panic",
    "fmt::",
    "std::sync",
    "std::thread",
    "thread_local",
    "unwrap_failed",
    "expect_failed",
    "Unwind",
];

/// Ends the process where a panic would unwind out of a C function. The compiler calls it in paths that are never taken,
/// since no panic is reached.
const END_OF_UNWINDING: &str = "core::panicking::panic_cannot_unwind";

#[derive(Default)]
struct Function {
    name: String,
    calls: BTreeSet<u64>,
    outside: BTreeSet<String>,
    pointers: usize,
    thread_local: Vec<String>,
    /// Registers that were loaded with the address of a named function.
    named: BTreeSet<String>,
}

fn objdump(arguments: &[&str]) -> Option<String> {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("objdump").args(arguments).arg(program).output().ok()?;
    assert!(output.status.success());
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// Where the global offset table points: another library's function, or one of this program.
fn relocations(listing: &str) -> BTreeMap<u64, Result<u64, String>> {
    let mut targets = BTreeMap::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [place, kind, target] = words[..]
            && kind.starts_with("R_X86_64_")
            && let Some(place) = hex(place)
        {
            let target = match target.strip_prefix("*ABS*+") {
                Some(address) => Ok(hex(address).unwrap()),
                None => Err(target.split(['@', '+']).next().unwrap().to_string()),
            };
            targets.insert(place, target);
        }
    }
    targets
}

fn functions(listing: &str, table: &BTreeMap<u64, Result<u64, String>>) -> BTreeMap<u64, Function> {
    let mut functions: BTreeMap<u64, Function> = BTreeMap::new();
    let mut current = 0;
    for line in listing.lines() {
        if let Some((address, name)) = line.split_once(" <")
            && let (Some(address), Some(name)) = (hex(address), name.strip_suffix(">:"))
        {
            current = address;
            functions.entry(current).or_default().name = name.to_string();
            continue;
        }
        let Some((_, instruction)) = line.split_once(":\t") else { continue };
        let function = functions.entry(current).or_default();
        if instruction.contains("%fs:") {
            function.thread_local.push(instruction.trim().to_string());
        }
        // The address of a function that is called through a register later, maybe more than once.
        let place = instruction
            .split_once("(%rip)")
            .and_then(|(_, rest)| hex(rest.split_once("# ")?.1.split_whitespace().next()?));
        let target = place.and_then(|place| table.get(&place));
        match target {
            Some(Err(name)) => function.outside.insert(name.clone()),
            Some(Ok(address)) => function.calls.insert(*address),
            None => false,
        };
        if target.is_some()
            && let Some((_, register)) = instruction.split_once("(%rip),")
        {
            function.named.extend(register.split_whitespace().next().map(String::from));
        }
        let mut words = instruction.split_whitespace();
        let operation = words.next().unwrap_or_default();
        if !operation.starts_with("call") && !operation.starts_with('j') {
            continue;
        }
        let operand = words.next().unwrap_or_default();
        if let Some(address) = hex(operand) {
            function.calls.insert(address);
        } else if target.is_none()
            && operation.starts_with("call")
            && !function.named.contains(operand.trim_start_matches('*'))
        {
            // A jump through a register is the jump table of a `match`.
            function.pointers += 1;
        }
    }
    functions
}

/// The address of the last instruction.
fn end_of_code(listing: &str) -> u64 {
    let instructions = listing.lines().rev().filter_map(|line| line.split_once(":\t"));
    instructions.filter_map(|(address, _)| hex(address.trim())).max().unwrap_or_default()
}

#[test]
fn everything_that_the_handler_reaches_is_harmless() {
    // Makes the linker keep what the handler reaches, and checks that it works.
    let region = common::page_by_page(1);
    common::poke(region.as_ptr(), 1);
    let file = pagewise::MappedFile::open(std::env::current_exe().unwrap()).unwrap();
    let program = pagewise::FileStore::builder(std::env::current_exe().unwrap()).read_only(true);
    let paged = pagewise::PagedRegion::builder(program.open().unwrap()).build();
    assert!(cfg!(not(target_os = "linux")) || paged.unwrap().pin(..1).unwrap()[0] != 0);
    file.read(0, &mut [0]).unwrap();
    if cfg!(debug_assertions) {
        return common::not_here("what the handler reaches (a debug build: use --release)");
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64"))
        || option_env!("RUSTFLAGS").is_some_and(|flags| flags.contains("sanitizer"))
    {
        return common::not_here("what the handler reaches (only plain x86-64 Linux programs)");
    }
    let Some(listing) = objdump(&["-d", "-C", "--no-show-raw-insn"]) else {
        return common::not_here("what the handler reaches (objdump of binutils is missing)");
    };
    let table = relocations(&objdump(&["-R"]).unwrap());
    let functions = functions(&listing, &table);
    let mut todo: Vec<u64> = functions
        .iter()
        .filter(|(_, function)| ROOTS.contains(&function.name.as_str()))
        .map(|(address, _)| *address)
        .collect();
    assert_eq!(todo.len(), ROOTS.len(), "the roots are in the program");
    let mut reached = BTreeSet::new();
    let mut wrong = Vec::new();
    // A jump may lead into the middle of a function. Addresses behind the code are those of data, which
    // is found by the same table.
    let end = end_of_code(&listing);
    let containing = |address| functions.range(..=address).next_back().filter(|_| address <= end);
    while let Some(address) = todo.pop() {
        if !reached.insert(address) {
            continue;
        }
        for (callee, function) in functions[&address].calls.iter().filter_map(|&at| containing(at))
        {
            if function.name == END_OF_UNWINDING {
                continue;
            }
            if FORBIDDEN.iter().any(|forbidden| function.name.contains(forbidden)) {
                wrong.push(format!("{} reaches {}", functions[&address].name, function.name));
            } else {
                todo.push(*callee);
            }
        }
    }
    for address in &reached {
        let Function { name, outside, pointers, thread_local, .. } = &functions[address];
        println!("{name}: calls {outside:?}, {pointers} through pointers");
        for other in outside.iter().filter(|name| !ALLOWED.contains(&name.as_str())) {
            wrong.push(format!("{name} calls {other}"));
        }
        // The owner of the range, its filter, the handlers before ours, and whoever gets the line about a refusal.
        let may_call_pointers = [
            "Registry::with",
            "fault::serve",
            "filter::call",
            "forks::call_handlers",
            "calls::<impl pagewise::paged::core::Core>::call_",
            "predecessors::call",
            "predecessors::hand_on",
            "reports::emit",
            "fault::report",
        ];
        if *pointers > 0 && !may_call_pointers.iter().any(|part| name.contains(part)) {
            wrong.push(format!("{name} calls through a pointer"));
        }
        for instruction in thread_local {
            wrong.push(format!("{name} has thread-local state: {instruction}"));
        }
    }
    assert!(reached.len() >= 2 && reached.len() < 200, "{} functions", reached.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The check itself works: it finds forbidden calls in an ordinary function.
#[test]
fn the_walk_finds_what_it_looks_for() {
    let table = relocations(
        "0000000000002000 R_X86_64_GLOB_DAT malloc@GLIBC_2.2.5\n\
                             0000000000002008 R_X86_64_RELATIVE *ABS*+0x1010\n",
    );
    let listing = "0000000000001000 <first>:\n    1000:\tcall   *0xffa(%rip)        # 2000 <x>\n    \
                   1004:\tjmp    *0xffa(%rip)        # 2008 <x>\n0000000000001010 <second>:\n    \
                   1010:\tmov    %fs:0x0,%rax\n    1014:\tcall   *%rax\n    1018:\tjne    1000 <first>\n";
    let functions = functions(listing, &table);
    assert!(functions[&0x1000].outside.contains("malloc"));
    assert!(functions[&0x1000].calls.contains(&0x1010));
    assert_eq!(end_of_code(listing), 0x1018);
    let second = &functions[&0x1010];
    assert_eq!((second.pointers, second.thread_local.len()), (1, 1));
    assert!(second.calls.contains(&0x1000));
}
