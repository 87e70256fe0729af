//! Two copies of pagewise in one process, each with its own registry and its own handler: this program's,
//! and one in a shared library. It happens where two libraries bring one each.
#![cfg(all(unix, not(pagewise_model)))]

mod common;

use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::process::Command;

use pagewise_c as first;

/// Functions of the second copy.
struct Second {
    options: unsafe extern "C" fn(*mut first::Options, usize) -> i32,
    new: unsafe extern "C" fn(usize, *const first::Options, *mut *mut c_void) -> i32,
    ptr: unsafe extern "C" fn(*const c_void) -> *mut u8,
    stats: unsafe extern "C" fn(*const c_void, *mut first::Stats, usize) -> i32,
    write: unsafe extern "C" fn(*mut c_void, usize, *const u8, usize, *mut usize) -> i32,
    is_displaced: unsafe extern "C" fn() -> i32,
    reinstall: unsafe extern "C" fn() -> i32,
}

/// The shared library that cargo built beside this test.
fn library() -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap();
    let deps = program.parent().unwrap();
    let name =
        format!("{}pagewise_c{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    [deps.join(&name), deps.parent().unwrap().join(&name)].into_iter().find(|path| path.exists())
}

#[expect(clippy::missing_transmute_annotations, reason = "the fields say the types")]
fn load() -> Second {
    let path = CString::new(library().expect("it is there").to_str().unwrap()).unwrap();
    // SAFETY: the library's constructors do nothing; the symbols are what the header says.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!library.is_null(), "{path:?}");
        let symbol = |name: &std::ffi::CStr| {
            let symbol = libc::dlsym(library, name.as_ptr());
            assert!(!symbol.is_null(), "{name:?}");
            symbol
        };
        let second = Second {
            options: std::mem::transmute(symbol(c"pagewise_options_default")),
            new: std::mem::transmute(symbol(c"pagewise_region_new")),
            ptr: std::mem::transmute(symbol(c"pagewise_region_ptr")),
            stats: std::mem::transmute(symbol(c"pagewise_region_stats")),
            write: std::mem::transmute(symbol(c"pagewise_region_write")),
            is_displaced: std::mem::transmute(symbol(c"pagewise_is_displaced")),
            reinstall: std::mem::transmute(symbol(c"pagewise_reinstall")),
        };
        assert_ne!(second.new as usize, first::pagewise_region_new as *const () as usize);
        second
    }
}

/// Faults on both copies' regions, by turns, and refusals of both.
///
/// # Safety
/// None: the regions are made here.
unsafe fn both_work(second: &Second) {
    let page = first::pagewise_page_size();
    // SAFETY: regions of four pages with a limit of three, used in bounds.
    unsafe {
        let (mut options, size) = (std::mem::zeroed(), size_of::<first::Options>());
        assert_eq!((second.options)(&mut options, size), 0);
        options.limit = 3 * page;
        options.step = page;
        let (mut ours, mut theirs) = (std::ptr::null_mut(), std::ptr::null_mut());
        assert_eq!(first::pagewise_region_new(4 * page, &options, &mut ours), first::Status::Ok);
        assert_eq!((second.new)(4 * page, &options, &mut theirs), 0);
        let (at, others) = (first::pagewise_region_ptr(ours).cast::<u8>(), (second.ptr)(theirs));
        for offset in [0, page] {
            at.add(offset).write_volatile(1);
            others.add(offset).write_volatile(2);
            assert_eq!(
                (at.add(offset).read_volatile(), others.add(offset).read_volatile()),
                (1, 2)
            );
        }
        let (bytes, mut copied) = (vec![3u8; 4 * page], 0);
        let refused =
            first::pagewise_region_write(ours, 0, bytes.as_ptr().cast(), 4 * page, &mut copied);
        assert_eq!((refused, copied), (first::Status::Limit, 3 * page));
        copied = 0;
        let refused = (second.write)(theirs, 0, bytes.as_ptr(), 4 * page, &mut copied);
        assert_eq!((refused, copied), (first::Status::Limit as i32, 3 * page));
        let (mut stats, size) = ([first::Stats::default(); 2], size_of::<first::Stats>());
        assert_eq!(first::pagewise_region_stats(ours, &mut stats[0], size), first::Status::Ok);
        assert_eq!((second.stats)(theirs, &mut stats[1], size), 0);
        assert_eq!(stats.map(|stats| stats.faults), [3; 2]);
        first::pagewise_region_free(ours);
    }
}

const ROLE: &str = "PAGEWISE_TEST_ROLE";
const DONE: i32 = 42;

/// Each in a process of its own, which this very test starts.
#[test]
fn both_copies_serve_their_own_whoever_is_in_front() {
    const NAME: &str = "both_copies_serve_their_own_whoever_is_in_front";
    if library().is_none() {
        return common::not_here("two copies in one process (no shared library was built)");
    }
    match std::env::var(ROLE).as_deref() {
        Ok(role) => {
            let second = load();
            // SAFETY: see there.
            unsafe { both_work(&second) };
            // SAFETY: as the header says.
            unsafe {
                assert_eq!((first::pagewise_is_displaced(), (second.is_displaced)()), (1, 0));
                assert_eq!(first::pagewise_reinstall(), first::Status::Ok);
                assert_eq!((first::pagewise_is_displaced(), (second.is_displaced)()), (0, 1));
                both_work(&second);
                assert_eq!((second.reinstall)(), 0);
                both_work(&second);
                if role == "stray" {
                    // In no region of either copy: each handler is called once, then the default action.
                    libc::alarm(30);
                    std::ptr::without_provenance_mut::<u8>(16).write_volatile(1);
                }
            }
            std::process::exit(DONE);
        }
        Err(_) => {
            use std::os::unix::process::ExitStatusExt;
            let run = |role: &str| {
                let mut child = Command::new(std::env::current_exe().unwrap());
                child.args(["--exact", NAME, "--nocapture"]).env(ROLE, role).output().unwrap()
            };
            let output = run("orderly");
            assert_eq!(output.status.code(), Some(DONE), "{output:?}");
            let output = run("stray");
            assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
        }
    }
}
