//! What kind of machine this is.

use std::fs;

use super::kilobytes;

/// Bytes of memory of the machine.
pub fn total_memory() -> Option<usize> {
    kilobytes("/proc/meminfo", "MemTotal:")
}

/// The model of the processor.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |key: &str| {
        text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key)
    };
    // AArch64 has numbers instead of a name.
    let model = named("model name").or(named("CPU part")).map(|(_, model)| model.trim().to_owned());
    model.unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// Nothing where there is none, or where it does not say so.
pub fn hypervisor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtual_machine = text.split_whitespace().any(|word| word == "hypervisor");
    if virtual_machine { "a hypervisor".into() } else { String::new() }
}

/// The kernel and its version.
pub fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}

const HUGE: &str = "/sys/kernel/mm/transparent_hugepage";

/// Settings of the kernel that change what is measured, as far as it has them.
pub fn settings() -> Vec<(String, String)> {
    let plain = [
        ("transparent_hugepage", format!("{HUGE}/enabled")),
        ("defrag", format!("{HUGE}/defrag")),
        ("shmem", format!("{HUGE}/shmem_enabled")),
        ("max_map_count", "/proc/sys/vm/max_map_count".into()),
        ("overcommit_memory", "/proc/sys/vm/overcommit_memory".into()),
        (
            "page_reporting_order",
            "/sys/module/page_reporting/parameters/page_reporting_order".into(),
        ),
    ];
    let values = plain.into_iter().filter_map(|(name, path)| Some((name.into(), chosen(&path)?)));
    values.chain([("mTHP".into(), other_sizes())]).collect()
}

/// A setting; of a list, the word in brackets.
pub(super) fn chosen(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    Some(inside.map_or(text.trim(), |(word, _)| word).to_owned())
}

/// The sizes of huge pages that are not set to `never`.
fn other_sizes() -> String {
    let folders = fs::read_dir(HUGE).into_iter().flatten().flatten();
    let mut sizes: Vec<(usize, String)> = folders
        .filter_map(|folder| {
            let name = folder.file_name().into_string().ok()?;
            let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let setting = chosen(folder.path().join("enabled").to_str()?)?;
            (setting != "never").then(|| (kib, format!("{kib} KiB: {setting}")))
        })
        .collect();
    sizes.sort_unstable();
    let sizes: Vec<_> = sizes.into_iter().map(|(_, text)| text).collect();
    if sizes.is_empty() { "none".into() } else { format!("({})", sizes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_of_choices_the_chosen_one_counts() {
        let path =
            std::env::temp_dir().join(format!("pagewise-bench-setting-{}", std::process::id()));
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            chosen(path.to_str().unwrap()).unwrap()
        };
        assert_eq!(read("always [madvise] never\n"), "madvise");
        assert_eq!(read("65530\n"), "65530");
        fs::remove_file(&path).unwrap();
        assert_eq!(chosen(path.to_str().unwrap()), None);
    }
}
