//! Other systems, where the benchmarks cannot measure memory: every answer is "unknown".

/// Bytes that no program and no cache uses.
pub fn free_memory() -> Option<usize> {
    None
}

/// The most bytes that were ever resident in this process.
pub fn peak_resident() -> Option<usize> {
    None
}

/// How long this thread has been on a processor.
pub fn time_on_processor() -> Option<std::time::Duration> {
    None
}

/// Mappings that this process has.
pub fn mappings() -> Option<usize> {
    None
}

/// Bytes of this process's page tables.
pub fn page_tables() -> Option<usize> {
    None
}

/// Bytes of a range that are resident, and bytes that are charged as committed.
pub fn resident_and_charged(_start: *const u8, _len: usize) -> Option<(usize, usize)> {
    None
}

/// Bytes of memory of the machine.
pub fn total_memory() -> Option<usize> {
    None
}

/// The model of the processor.
pub fn processor() -> String {
    std::env::consts::ARCH.into()
}

/// The hypervisor.
pub fn hypervisor() -> String {
    String::new()
}

/// The kernel and its version.
pub fn kernel() -> String {
    std::env::consts::OS.into()
}

/// Settings of the kernel.
pub fn settings() -> Vec<(String, String)> {
    Vec::new()
}

/// Touched memory that a process holds for others: written for Linux only.
pub enum Held {}

impl Held {
    pub fn small_pages(_len: usize) -> Option<Self> {
        None
    }

    pub fn huge_pages(_len: usize) -> Option<Self> {
        None
    }

    pub fn len(&self) -> usize {
        match *self {}
    }

    pub fn crumble(self) -> Option<Self> {
        match self {}
    }

    pub fn let_go(&mut self, _bytes: usize) {
        match *self {}
    }

    pub fn take_back(&mut self) {
        match *self {}
    }
}

/// Asks for transparent huge pages.
pub fn advise_huge(_start: *mut u8, _len: usize) -> Result<(), String> {
    Err("written for Linux only".into())
}

/// Bytes that are resident in this process now.
pub fn resident() -> Option<usize> {
    None
}

/// A control group: Linux has them only.
pub enum Group {}

impl Group {
    pub fn with_limit(_bytes: usize) -> Result<Self, String> {
        Err("control groups exist on Linux only".into())
    }

    pub fn cache_a_file(&self, _bytes: usize) -> Result<(), String> {
        match *self {}
    }
}

/// A setting that is put back when this is dropped.
pub enum Changed {}

/// Sets what the kernel does when a huge page is wanted and none is free.
pub fn set_defrag(_value: &str) -> Result<Changed, String> {
    Err("transparent huge pages are measured on Linux only".into())
}

/// A child that waits.
pub enum Forked {}

/// Forks a child that does nothing.
pub fn forked() -> Result<Forked, String> {
    Err("written for Linux only".into())
}

/// How many huge pages the free blocks of the machine have room for.
pub fn free_huge_pages() -> Option<usize> {
    None
}
