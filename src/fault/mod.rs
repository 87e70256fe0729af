//! Faults: catching them, serving them, and code that survives a refusal.
//!
//! The first [`DemandRegion`](crate::DemandRegion) installs the handler. A fault outside of pagewise's
//! regions reaches the handler that was installed before, with the same arguments, mask and flags as without
//! pagewise. See `docs/platforms.md` for the details on each system.

use crate::error::{Error, Refusal, RefusalReason};
use crate::os;

mod attempt;
mod events;
mod filtering;
mod guarded;
mod handled;
mod registers;
mod registry;
mod reports;

#[cfg(unix)]
#[path = "unix/mod.rs"]
mod handler;

#[cfg(windows)]
#[path = "windows.rs"]
mod handler;

pub use attempt::attempt;
pub(crate) use events::EventRing;
pub use events::{FaultEvent, FaultOutcome};
pub(crate) use filtering::in_a_filter;
pub use filtering::{FilterCheck, in_filter};
pub(crate) use guarded::{copy, fill};
pub use handled::Handled;
pub use handler::try_handle;
pub(crate) use handler::uninterrupted;
pub(crate) use registry::Registered;
pub use reports::{report_nowhere, report_to, report_to_stderr};

#[cfg(not(loom))]
static REGISTRY: registry::Registry = registry::Registry::new();
#[cfg(loom)]
static REGISTRY: std::sync::LazyLock<registry::Registry> =
    std::sync::LazyLock::new(registry::Registry::new);

/// Installs the handler, which the first [`DemandRegion`](crate::DemandRegion) does by itself.
///
/// Calling it early decides who comes first: handlers that a program installs later are asked before
/// this one, and must hand on what is not theirs. Further calls do nothing, and nothing ever
/// uninstalls it. The handlers that were there before are called for every fault that is not ours.
///
/// # Errors
/// [`System`](Error::System), if the system refuses to install a handler.
///
/// ```
/// pagewise::fault::install()?;
/// # Ok::<(), pagewise::Error>(())
/// ```
pub fn install() -> Result<(), Error> {
    handler::install()
}

/// Whether another handler has replaced ours since it was installed.
///
/// That is no error by itself: a handler that hands on what is not its own still gets our faults to
/// us. Where it does not, the first touch of an uncommitted page ends the process. The ways out: let
/// that handler call [`try_handle`], or call [`reinstall`].
///
/// On Windows, handlers form a list, and none replaces another: always `false`.
///
/// ```
/// pagewise::fault::install()?;
/// assert!(!pagewise::fault::is_displaced());
/// # Ok::<(), pagewise::Error>(())
/// ```
pub fn is_displaced() -> bool {
    handler::is_displaced()
}

/// Puts our handler back in front of one that displaced it.
///
/// The displacing handler becomes our predecessor, and gets every fault outside of pagewise's regions. Where it
/// hands a fault back, because it saved our handler as *its* predecessor, ours passes the fault on to the handler
/// that was installed before it. Does nothing where ours is in front already.
///
/// # Errors
/// [`Unsupported`](Error::Unsupported) after many different displacements, [`System`](Error::System).
///
/// ```
/// pagewise::fault::reinstall()?;
/// assert!(!pagewise::fault::is_displaced());
/// # Ok::<(), pagewise::Error>(())
/// ```
pub fn reinstall() -> Result<(), Error> {
    handler::reinstall()
}

/// Makes a range's faults be served by its owner.
///
/// # Safety
/// As [`Registry::add`](registry::Registry::add): the entry stays where it is until [`unregister`].
pub(crate) unsafe fn register(entry: &Registered) {
    os::call_missed_handlers();
    // SAFETY: the caller's promise.
    unsafe { REGISTRY.add(entry) }
}

/// Returns when no handler can be using the entry any more.
pub(crate) fn unregister(entry: &Registered) {
    os::call_missed_handlers();
    REGISTRY.remove(entry);
}

/// Repairs what threads of the parent were changing, in the child of a fork. Async-signal-safe.
#[cfg(unix)]
fn after_fork_in_child() {
    attempt::forget_other_threads();
    filtering::forget_other_threads();
    REGISTRY.after_fork_in_child();
}

/// There are no forks.
#[cfg(windows)]
fn after_fork_in_child() {}

/// One access that the processor could not complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) address: usize,
    /// Whether it was a write; `None` where the system does not tell.
    pub(crate) write: Option<bool>,
    /// Whether the system could not bring the page, rather than forbid the access: SIGBUS, or an in-page error on
    /// Windows. (macOS may raise SIGBUS for a forbidden access, too.)
    pub(crate) is_unavailable: bool,
}

/// What became of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// The access succeeds now, or is to be tried again because another thread is changing the page.
    Resolved,
    /// The access must not succeed.
    Refused(Refusal),
    /// The page is committed and keeps faulting: the program took its access away. Handed on.
    NotOurs,
}

/// Serves a fault. Where it is [`Served`](Handled::Served), the interrupted thread continues at the same instruction,
/// or at the landing of a guarded copy or an attempt that was refused; otherwise the fault is handed on.
/// Async-signal-safe; uses no thread-local state but the error code, which it restores.
fn serve(fault: Fault, context: &mut registers::Context) -> Handled {
    os::call_missed_handlers();
    let handled = REGISTRY.with(fault.address, |entry| {
        // SAFETY: the registry holds the entry while we read it.
        match os::preserving_error_code(|| unsafe { (entry.serve)(entry.owner, fault) }) {
            Outcome::NotOurs => Handled::NotOurs,
            Outcome::Resolved => Handled::Served,
            // SAFETY: the name lives as long as the entry.
            Outcome::Refused(refusal) if land(&refusal, unsafe { &*entry.file }, context) => {
                Handled::Served
            }
            Outcome::Refused(refusal) => Handled::Refused(refusal),
        }
    });
    handled.unwrap_or(Handled::NotOurs)
}

/// Ends a guarded copy whose access was refused, or else the thread's innermost attempt, by redirecting the thread
/// to its landing. For any other access, reports the refusal and returns `false`. `file` is as in
/// [`Registered`].
fn land(refusal: &Refusal, file: &[u8], context: &mut registers::Context) -> bool {
    let Some(landing) = guarded::landing(registers::program_counter(context)) else {
        if attempt::leave(refusal, context) {
            return true;
        }
        report(refusal, file);
        return false;
    };
    // SAFETY: the thread is inside a guarded copy, whose register holds the address of a refusal that
    // lives until the copy returns.
    unsafe { registers::refusal(context).write(*refusal) };
    registers::set_program_counter(context, landing);
    true
}

/// Says in one line that a plain access was refused. Async-signal-safe.
#[cold]
#[inline(never)] // keeps its stack use out of the path of served faults
fn report(refusal: &Refusal, file: &[u8]) {
    let mut line = Line::new();
    line.text("pagewise: refused an access at offset ").hex(refusal.offset);
    match file {
        [] => line.text(" of the region at ").hex(refusal.region),
        name => line.text(" of the file ").ascii(name),
    };
    let used_up = |line: &mut Line, what, used, limit| {
        line.text(what).decimal(limit).text(" bytes reached (").decimal(used).text(" committed); ");
    };
    match refusal.reason {
        RefusalReason::Limit { used, limit } => {
            used_up(&mut line, ": limit of ", used, limit);
            line.text("raise the limit, decommit");
        }
        RefusalReason::Budget { used, limit } => {
            used_up(&mut line, ": budget of ", used, limit);
            line.text("give a larger budget, decommit");
        }
        RefusalReason::Mappings { mappings, max, .. } => {
            line.text(": the process has ").decimal(mappings).text(" of at most ").decimal(max);
            line.text(" memory mappings; raise vm.max_map_count, touch neighbouring pages");
        }
        RefusalReason::Locked(error) | RefusalReason::System(error) => {
            let code = error.code().unsigned_abs() as usize;
            line.text(": the system refused the memory (error ").decimal(code);
            line.text("); free memory");
        }
        RefusalReason::Filter => {
            line.text(": the region's filter refused it; change what it answers");
        }
        RefusalReason::FileTruncated { len } => {
            line.text(": the file has only ").decimal(usize::try_from(len).unwrap_or(usize::MAX));
            line.text(" bytes now; keep others from truncating it");
        }
        RefusalReason::FileUnreadable => {
            line.text(": the system could not read or write the file's page; look at its disk");
        }
        RefusalReason::Pinned { pinned, limit } => {
            line.text(": ").decimal(pinned).text(" bytes of at most ").decimal(limit);
            line.text(" are pinned; end a pin, raise the limit");
        }
        RefusalReason::Store(_) => {
            line.text(
                ": the store could not read the page, or write another one; look at the store",
            );
        }
        RefusalReason::Left => {
            line.text(": the region belongs to the parent process; make a new one");
        }
        RefusalReason::ReadOnly => {
            line.text(": the region is read-only; build it for writing");
        }
        // Made only by checks before an access, never for a page fault.
        RefusalReason::NotReserved => {}
    }
    line.text(", or use read/write/fill, which return the refusal as an error\n");
    reports::emit(line.as_bytes());
}

/// A line of text, put together without allocation or formatting machinery.
struct Line {
    bytes: [u8; 320],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self { bytes: [0; 320], len: 0 }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.ascii(text.as_bytes())
    }

    fn ascii(&mut self, text: &[u8]) -> &mut Self {
        for (place, &byte) in self.bytes.iter_mut().skip(self.len).zip(text) {
            *place = byte;
            self.len += 1;
        }
        self
    }

    fn hex(&mut self, number: usize) -> &mut Self {
        self.text("0x").number::<16>(number)
    }

    fn decimal(&mut self, number: usize) -> &mut Self {
        self.number::<10>(number)
    }

    fn number<const BASE: usize>(&mut self, mut number: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut len = 0;
        for place in digits.iter_mut().rev() {
            let digit = (number % BASE) as u8;
            *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            number /= BASE;
            len += 1;
            if number == 0 {
                break;
            }
        }
        self.ascii(digits.split_at_checked(digits.len() - len).map_or(&[], |(_, used)| used))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_numbers_without_the_formatting_machinery() {
        let mut line = Line::new();
        line.text("a ").hex(0).text(" ").hex(0x4f000).text(" ").decimal(usize::MAX);
        assert_eq!(line.as_bytes(), b"a 0x0 0x4f000 18446744073709551615");
        line.text(&"x".repeat(1000));
        assert_eq!(line.as_bytes().len(), 320);
    }
}
