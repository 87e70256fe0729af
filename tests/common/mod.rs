//! Helpers for tests. A test that needs a process of its own starts this test program again, with one test.
#![allow(dead_code)] // every test file uses some of it

use std::panic::Location;
use std::process::{Command, ExitStatus, Stdio};

mod not_here;

pub use not_here::not_here;
use not_here::repeat_what_a_child_said;

const ROLE: &str = "PAGEWISE_TEST_ROLE";

/// Whether this process was started for this role.
pub fn is_child(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|actual| actual == role)
}

/// The command that starts this test program again with one test, `name`, and `role` for [`is_child`]. The
/// caller is in the file of that test.
#[track_caller]
pub fn child(name: &str, role: &str) -> Command {
    let program = std::env::current_exe().expect("a test program knows itself");
    let mut command = match emulator() {
        Some(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("a runner has a name"));
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    if let Ok(options) = std::env::var("ASAN_OPTIONS") {
        // Children exit early, and some limit their own memory, which the sanitizer's search for leaks needs.
        // The search runs in their parents.
        command.env("ASAN_OPTIONS", options + ":detect_leaks=0");
    }
    let name = module_of(Location::caller().file()) + name;
    command.args(["--exact", &name, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// What the test runner puts before the names of a file's tests. A file of `tests/` is a program, and its
/// tests have no prefix; a file of a folder in `tests/` is a module of the folder's program.
fn module_of(file: &str) -> String {
    let mut parts = file.rsplit(['/', '\\']);
    let name = parts.next().and_then(|last| last.strip_suffix(".rs")).expect("a source file");
    if parts.next() == Some("tests") { String::new() } else { format!("{name}::") }
}

/// The command that runs foreign programs, in a test of another processor.
pub fn emulator() -> Option<String> {
    std::env::var("PAGEWISE_TEST_RUNNER").ok()
}

/// Whether qemu or Wine runs this test. They use memory for every page that is reserved, so that tests reserve
/// gigabytes there instead of terabytes.
pub fn address_space_is_dear() -> bool {
    #[cfg(windows)]
    if under_wine() {
        return true;
    }
    emulator().is_some()
}

/// The exit status of a child that completed its work. Not 0, which a child that ran no test has.
const DONE: i32 = 42;

/// How a child process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn well(&self) {
        assert_eq!(self.status.code(), Some(DONE), "{self:#?}");
    }

    #[cfg(unix)]
    #[track_caller]
    pub fn by_signal(&self, signal: i32) {
        use std::os::unix::process::ExitStatusExt;
        // An emulator dies of the signal, or exits with 128 plus the signal's number, as a shell does.
        let seen = self.status.signal().or(self.status.code().map(|code| code - 128));
        assert_eq!(seen, Some(signal), "{self:#?}");
    }

    /// Whether a process died of an access that it must not make.
    #[track_caller]
    pub fn by_access_violation(&self) {
        #[cfg(unix)]
        {
            use std::os::unix::process::ExitStatusExt;
            let signal = self.status.signal().or(self.status.code().map(|code| code - 128));
            // macOS has SIGBUS for protected memory.
            assert!(matches!(signal, Some(libc::SIGSEGV | libc::SIGBUS)), "{self:#?}");
            assert!(signal == Some(libc::SIGSEGV) || cfg!(target_vendor = "apple"), "{self:#?}");
        }
        #[cfg(windows)]
        assert_eq!(self.status.code(), Some(0xc000_0005_u32 as i32), "{self:#?}");
    }

    /// Lines that pagewise wrote about refused accesses.
    pub fn diagnostics(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.contains("pagewise: ")).collect()
    }
}

/// Runs `body` in a process of its own: this very test, started again. `test` is its name, with the modules
/// that its file has inside.
#[track_caller]
pub fn in_a_process(test: &str, body: impl FnOnce()) -> Ended {
    if std::env::var(ROLE).is_ok() {
        run(body);
    }
    start(test, "the only one")
}

/// The same for several cases of one test, each in its own process.
#[track_caller]
pub fn each_in_a_process(test: &str, cases: &[(&str, fn())], check: impl Fn(&str, Ended)) {
    if let Ok(wanted) = std::env::var(ROLE) {
        let (_, body) = cases.iter().find(|(name, _)| *name == wanted).expect("a known case");
        run(body);
    }
    for (name, _) in cases {
        check(name, start(test, name));
    }
}

fn run(body: impl FnOnce()) -> ! {
    no_core_dump();
    body();
    std::process::exit(DONE)
}

#[track_caller]
fn start(test: &str, case: &str) -> Ended {
    let output = child(test, case).stdin(Stdio::null()).output().expect("the test starts itself");
    repeat_what_a_child_said(&output.stderr);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let stdout = text(output.stdout);
    assert!(!stdout.contains("running 0 tests"), "the child found no test named {test}");
    Ended { status: output.status, stdout, stderr: text(output.stderr) }
}

/// A child that gets a name which no test has would run no test, and succeed.
#[test]
#[cfg(not(miri))]
#[should_panic(expected = "the child found no test named a_test_that_does_not_exist")]
fn a_child_that_runs_no_test_fails_its_parent() {
    in_a_process("a_test_that_does_not_exist", || {});
}

/// Whether an emulator runs this test: then it delivers the signals, not the kernel.
pub fn emulated() -> bool {
    emulator().is_some_and(|runner| runner.contains("qemu"))
}

/// Whether Wine stands in for Windows.
#[cfg(windows)]
pub fn under_wine() -> bool {
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
    // SAFETY: both names end with a zero, and ntdll is always loaded.
    unsafe {
        let ntdll = GetModuleHandleA(c"ntdll.dll".as_ptr().cast());
        GetProcAddress(ntdll, c"wine_get_version".as_ptr().cast()).is_some()
    }
}

/// Whether this is built with a sanitizer, which allocates memory of its own at any time.
pub fn sanitized() -> bool {
    std::env::var_os("ASAN_OPTIONS").is_some()
}

#[cfg(unix)]
fn no_core_dump() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a plain call with a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
}

#[cfg(not(unix))]
fn no_core_dump() {}

/// Every engine that works here. Reports the others as not tested.
pub fn engines() -> Vec<pagewise::Engine> {
    use pagewise::Engine;
    let works = |&engine: &Engine| match pagewise::DemandRegion::builder(1).engine(engine).build() {
        Ok(_) => true,
        Err(pagewise::Error::Unsupported { what }) => {
            not_here(what);
            false
        }
        Err(error) => panic!("{engine:?}: {error}"),
    };
    [Engine::Protect, Engine::Guard, Engine::UserFault].into_iter().filter(works).collect()
}

/// A region in which every fault commits one page.
pub fn page_by_page(pages: usize) -> pagewise::DemandRegion {
    pagewise::DemandRegion::builder(pages * pagewise::page_size())
        .step(pagewise::CommitStep::page())
        .build()
        .expect("a region")
}

/// A plain store that the compiler neither moves nor drops.
pub fn poke(at: *mut u8, value: u8) {
    // SAFETY: callers pass addresses that are theirs, or that the test means to fault on.
    unsafe { at.write_volatile(value) }
}

/// A plain load that the compiler neither moves nor drops.
pub fn peek(at: *const u8) -> u8 {
    // SAFETY: as for `poke`.
    unsafe { at.read_volatile() }
}

/// What the system lets this process do with a byte: read it, and write it. Asked by system calls, which
/// fail where a plain access would fault; the byte keeps what it holds.
#[cfg(unix)]
pub fn rights(at: *mut u8) -> (bool, bool) {
    use std::io::{PipeReader, PipeWriter};
    use std::os::fd::AsRawFd;
    use std::sync::Mutex;
    // One caller at a time, since the byte goes through a pipe and back.
    static PIPE: Mutex<Option<(PipeReader, PipeWriter)>> = Mutex::new(None);
    let done = |result: isize| {
        let code = std::io::Error::last_os_error().raw_os_error();
        assert!(result == 1 || (result == -1 && code == Some(libc::EFAULT)), "{result}, {code:?}");
        result == 1
    };
    let mut pipe = PIPE.lock().unwrap();
    let (from, to) = pipe.get_or_insert_with(|| std::io::pipe().unwrap());
    let (mut elsewhere, from, to) = (0u8, from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: the system checks the address; what it writes there is what it read there.
    unsafe {
        let can_be_read = done(libc::write(to, at.cast(), 1));
        let can_be_written = can_be_read && done(libc::read(from, at.cast(), 1));
        if can_be_read && !can_be_written {
            assert_eq!(libc::read(from, (&raw mut elsewhere).cast(), 1), 1);
        }
        (can_be_read, can_be_written)
    }
}

/// What Linux tells in `/proc/self/smaps` of a range of addresses.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes of mappings that count against the commit limit.
    pub charged: usize,
    pub resident: usize,
    pub swapped: usize,
    /// Bytes that `MADV_FREE` left to the system (at least: the kernel counts in batches).
    pub left_to_the_system: usize,
    pub locked: usize,
    /// Bytes of mappings that core dumps leave out.
    pub not_dumped: usize,
    /// Bytes of mappings that may get huge pages, or must not, because somebody said so.
    pub asked_for_huge_pages: usize,
    pub asked_for_small_pages: usize,
    /// Bytes in huge pages.
    pub huge: usize,
    pub mapped: usize,
}

/// Adds up the numbers of all mappings in a range. For a mapping that reaches beyond the range, all of its resident,
/// swapped, locked and huge bytes count. (Guard pages, or other rights, keep mappings from merging with their
/// neighbours.) `None` where the kernel or an emulator does not tell.
#[cfg(target_os = "linux")]
pub fn counted(start: *const u8, len: usize) -> Option<Counted> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let (from, to) = (start.addr(), start.addr() + len);
    let (mut sum, mut size, mut told) = (Counted::default(), None, false);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let edges = first.split_once('-').and_then(|(from, to)| {
            Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
        });
        if let Some((first, end)) = edges {
            let inside = end.min(to).saturating_sub(first.max(from));
            size = (inside > 0).then_some(inside);
            sum.mapped += size.unwrap_or(0);
        }
        let Some(size) = size else { continue };
        if first == "VmFlags:" {
            told = true;
            let flags: Vec<_> = words.collect();
            sum.charged += if flags.contains(&"ac") { size } else { 0 };
            sum.not_dumped += if flags.contains(&"dd") { size } else { 0 };
            sum.asked_for_huge_pages += if flags.contains(&"hg") { size } else { 0 };
            sum.asked_for_small_pages += if flags.contains(&"nh") { size } else { 0 };
            continue;
        }
        let number = words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or(0) << 10;
        match first {
            "Rss:" => sum.resident += number,
            "Swap:" => sum.swapped += number,
            "LazyFree:" => sum.left_to_the_system += number,
            "Locked:" => sum.locked += number,
            "AnonHugePages:" => sum.huge += number,
            _ => {}
        }
    }
    (told || sum.mapped == 0).then_some(sum)
}

#[cfg(unix)]
pub mod signals {
    use std::ffi::{c_int, c_void};

    pub type Three = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    pub type One = extern "C" fn(c_int);

    pub fn set(signal: c_int, handler: usize, flags: c_int, mask: &[c_int]) {
        // SAFETY: a complete action; the handlers of the tests have the signature that flags say.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = flags as _;
            for &signal in mask {
                libc::sigaddset(&mut action.sa_mask, signal);
            }
            assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
        }
    }

    pub fn set_three(signal: c_int, handler: Three, flags: c_int, mask: &[c_int]) {
        set(signal, handler as *const () as usize, flags | libc::SA_SIGINFO, mask);
    }

    pub fn set_one(signal: c_int, handler: One, flags: c_int, mask: &[c_int]) {
        set(signal, handler as *const () as usize, flags, mask);
    }

    pub fn get(signal: c_int) -> libc::sigaction {
        // SAFETY: asking only fills the action.
        unsafe {
            let mut action = std::mem::zeroed();
            assert_eq!(libc::sigaction(signal, std::ptr::null(), &mut action), 0);
            action
        }
    }

    /// Whether this thread has a signal blocked.
    pub fn is_blocked(signal: c_int) -> bool {
        // SAFETY: asking only fills the set.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &mut set);
            libc::sigismember(&set, signal) == 1
        }
    }

    /// Blocks or unblocks a signal in this thread.
    pub fn block(signal: c_int, blocked: bool) {
        let how = if blocked { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
        // SAFETY: a valid set.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
            libc::pthread_sigmask(how, &set, std::ptr::null_mut());
        }
    }

    pub fn send(signal: c_int) {
        // SAFETY: a plain call. (To this thread, so that it is delivered before the call returns.)
        unsafe { assert_eq!(libc::raise(signal), 0) };
    }

    /// Gives this thread a stack for signals that has room for several deliveries, one inside the other:
    /// std's own is made for one, and each takes kilobytes where the processor has large registers.
    pub fn use_a_roomy_stack() {
        const ROOM: usize = 1 << 17;
        let memory = Vec::leak(vec![0u8; ROOM]);
        let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: ROOM };
        // SAFETY: the memory is there for ever.
        assert_eq!(unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) }, 0);
    }

    /// Prints from a signal handler: async-signal-safe.
    pub fn say(text: &str) {
        // SAFETY: a valid buffer.
        unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
    }
}
