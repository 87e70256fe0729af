//! A file of numbers, in the system's cache.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use pagewise::{FileStore, PagedRegion, PagedRegionBuilder};

/// A file that is gone when this is dropped.
pub struct Numbers {
    pub path: PathBuf,
    pub len: usize,
}

impl Numbers {
    /// Makes a file of `len` bytes, a multiple of 1 MiB: each number is its own index.
    pub fn new(len: usize) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("pagewise-bench-{}", std::process::id()));
        let this = Self { path, len };
        let mut file = File::create(&this.path)?;
        let mut number = 0u64;
        for _ in 0..len >> 20 {
            let mut chunk = Vec::with_capacity(1 << 20);
            for _ in 0..(1 << 20) / size_of::<u64>() {
                chunk.extend_from_slice(&number.to_ne_bytes());
                number += 1;
            }
            file.write_all(&chunk)?;
        }
        // What waits to be written to the disk would be written while something is measured.
        file.sync_all()?;
        Ok(this)
    }

    pub fn open(&self) -> std::io::Result<File> {
        File::options().read(true).write(true).open(&self.path)
    }

    pub fn region(&self) -> Result<PagedRegionBuilder<FileStore>, pagewise::Error> {
        Ok(PagedRegion::builder(FileStore::open(&self.path)?))
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
