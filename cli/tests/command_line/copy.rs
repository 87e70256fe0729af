//! Files are copied through little memory, and what went wrong is said.

use std::fs;

#[cfg(target_os = "linux")]
use crate::json;
use crate::{complaint, run, text};

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("pagewise-copy-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn some_bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_is_copied_and_shown() {
    let folder = Folder::new("shown");
    let (from, to) = (folder.path("from"), folder.path("to"));
    let bytes = some_bytes(5_000_003);
    fs::write(&from, &bytes).unwrap();
    let output = run(&["copy", &from, &to, "--memory", "3M"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(fs::read(&to).unwrap() == bytes);
    let text = text(&output);
    assert!(text.starts_with("5000003 bytes in pages of 16 KiB, with at most 3 MiB"), "{text}");
    assert!(text.contains("█ in memory") && text.contains('·'), "{text}");
    assert!(!text.contains('\x1b'), "no colours in a file");

    let report = json(&["copy", &from, &to, "--memory", "3M", "--page", "64K"], 0);
    assert_eq!((&report["bytes"], &report["page_bytes"]), (&5_000_003.into(), &65536.into()));
    let pages = 5_000_003_u64.div_ceil(65536);
    assert_eq!(report["copied"]["pages_written"], pages);
    // Pages that are replaced as a whole are not read first.
    assert!(report["copied"]["pages_read"].as_u64().unwrap() <= 1, "{report}");
    assert!(report["checked"]["pages_read"].as_u64().unwrap() >= pages, "{report}");
}

#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_copied_is_said() {
    let folder = Folder::new("said");
    let (from, to) = (folder.path("from"), folder.path("to"));
    fs::write(&from, some_bytes(100_000)).unwrap();
    for (arguments, said) in [
        (vec![&from[..], &to, "--memory", "4K"], "limit of"),
        (vec!["/no/such/file", &to], "/no/such/file"),
        (vec![&from, "/no/such/folder/file"], "/no/such/folder/file"),
        (vec![&from, &to, "--page", "3K"], "power of two"),
        #[cfg(not(feature = "stores"))]
        (vec![&from, "folder:there"], "feature `stores`"),
    ] {
        let output = run(&[&["copy"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(complaint(&output).contains(said), "{output:?}");
        assert!(output.stdout.is_empty());
    }
    fs::write(&from, []).unwrap();
    let output = run(&["copy", &from, &to]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(complaint(&output).contains("zero bytes"), "{output:?}");
}

#[test]
#[cfg(not(target_os = "linux"))]
fn other_systems_say_that_they_cannot() {
    let folder = Folder::new("elsewhere");
    let (from, to) = (folder.path("from"), folder.path("to"));
    fs::write(&from, some_bytes(100_000)).unwrap();
    let output = run(&["copy", &from, &to]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(complaint(&output).contains("unsupported here"), "{output:?}");
    assert!(text(&output).is_empty());
}

#[test]
#[cfg(all(target_os = "linux", feature = "stores"))]
fn a_file_goes_into_a_folder_of_objects_and_comes_back() {
    let folder = Folder::new("objects");
    let (from, back) = (folder.path("from"), folder.path("back"));
    let bytes = some_bytes(3_000_000);
    fs::write(&from, &bytes).unwrap();
    let store = format!("folder:{}", folder.path("objects"));
    for (from, to) in [(&from, &store), (&store, &back)] {
        let output = run(&["copy", from, to, "--memory", "16M"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert!(fs::read(&back).unwrap() == bytes);
    // It is not replaced.
    let output = run(&["copy", &from, &store, "--memory", "16M"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(complaint(&output).contains("there is a store"), "{output:?}");
}
