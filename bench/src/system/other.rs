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
