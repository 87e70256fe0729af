//! Control groups, settings of the kernel, and children: what needs rights, and must be undone.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A control group of this process's own with a limit of memory. The process leaves it when this is dropped.
pub struct Group {
    folder: PathBuf,
    /// Where the process was before.
    before: PathBuf,
}

const PREFIX: &str = "pagewise-bench-";

impl Group {
    pub fn with_limit(bytes: usize) -> Result<Self, String> {
        let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let (root, path, file) = memory_controller(&groups)
            .ok_or("no control groups of memory that this process could use")?;
        let before = root.join(path.trim_start_matches('/'));
        let before = if before.exists() { before } else { root.to_path_buf() };
        remove_abandoned(&before);
        let folder = before.join(format!("{PREFIX}{}", std::process::id()));
        let place = before.display().to_string();
        let failed = |what: &str| format!("{what} in {place} is not allowed here");
        fs::create_dir(&folder).map_err(|_| failed("a new control group"))?;
        let group = Self { folder, before };
        let set = group.write(file, &bytes.to_string());
        set.and_then(|()| group.write("cgroup.procs", "0"))
            .map_err(|_| failed("a limit of memory"))?;
        Ok(group)
    }

    fn write(&self, file: &str, value: &str) -> std::io::Result<()> {
        fs::write(self.folder.join(file), value)
    }

    /// Writes a file, whose pages the group keeps in memory as long as there is room. The file itself is gone when this
    /// returns with an error, or when the process ends.
    pub fn cache_a_file(&self, bytes: usize) -> Result<(), String> {
        let cache = || -> std::io::Result<()> {
            let program = std::env::current_exe()?;
            let name = format!("{PREFIX}{}.cached", std::process::id());
            let path = program.parent().unwrap_or(Path::new(".")).join(name);
            let mut file = fs::File::create(&path)?;
            let written = (0..bytes >> 20).try_for_each(|_| file.write_all(&[1; 1 << 20]));
            // Pages that are not yet on the disk cannot be taken away.
            let synced = written.and_then(|()| file.sync_all());
            fs::remove_file(&path)?;
            synced?;
            // An open file keeps its pages.
            std::mem::forget(file);
            Ok(())
        };
        cache().map_err(|error| format!("writing a file to cache: {error}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What cannot be undone now is removed by the next one.
        let _ = fs::write(self.before.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The mount point of the controller, this process's group there, and the file for the limit.
fn memory_controller(groups: &str) -> Option<(&'static Path, &str, &'static str)> {
    let fields = |line| {
        let mut fields = str::splitn(line, 3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    };
    let mut lines = groups.lines().filter_map(fields);
    let named = lines.clone().find(|(names, _)| names.split(',').any(|name| name == "memory"));
    if let Some((_, path)) = named {
        return Some((Path::new("/sys/fs/cgroup/memory"), path, "memory.limit_in_bytes"));
    }
    let root = Path::new("/sys/fs/cgroup");
    let unified = lines.find(|(names, _)| names.is_empty());
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
    let usable = controllers.split_whitespace().any(|name| name == "memory");
    unified.filter(|_| usable).map(|(_, path)| (root, path, "memory.max"))
}

/// Groups of processes that were ended before they could remove them. One that is in use cannot be removed.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A setting of the kernel that is put back when this is dropped.
pub struct Changed {
    path: &'static str,
    before: String,
}

/// Sets what the kernel does when a huge page is wanted and none is free.
pub fn set_defrag(value: &str) -> Result<Changed, String> {
    const PATH: &str = "/sys/kernel/mm/transparent_hugepage/defrag";
    let before = super::origin::chosen(PATH).ok_or("the kernel has no transparent huge pages")?;
    fs::write(PATH, value).map_err(|error| format!("{PATH} cannot be set: {error}"))?;
    Ok(Changed { path: PATH, before })
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.before) {
            eprintln!(
                "pagewise-bench: {} cannot be set back to {}: {error}",
                self.path, self.before
            );
        }
    }
}

/// A child that waits. Ended when this is dropped.
pub struct Forked(libc::pid_t);

/// Forks a child that does nothing.
pub fn forked() -> Result<Forked, String> {
    // SAFETY: the child only waits, which is allowed after a fork.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error().to_string()),
        0 => loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        },
        child => Ok(Forked(child)),
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // SAFETY: the child is this process's own, and nobody has waited for it.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_controller_is_found_in_both_kinds_of_groups() {
        let first = "5:cpu:/a\n4:hugetlb,memory:/b\n0::/c\n";
        let expected = (Path::new("/sys/fs/cgroup/memory"), "/b", "memory.limit_in_bytes");
        assert_eq!(memory_controller(first), Some(expected));
        if let Some((root, path, file)) = memory_controller("0::/c\n") {
            assert_eq!((root, path, file), (Path::new("/sys/fs/cgroup"), "/c", "memory.max"));
        }
        assert_eq!(memory_controller("5:cpu:/a\n"), None);
    }
}
