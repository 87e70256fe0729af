//! Where, and with what, something was measured: it stands above every table and in each object of `--json`.

use serde::Serialize;

use crate::system;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// The model of the processor.
    pub processor: String,
    pub processors: usize,
    /// MiB of memory, where that is known.
    pub memory_mib: Option<usize>,
    /// The hypervisor, or nothing where there seems to be none.
    pub hypervisor: String,
    pub kernel: String,
    /// Names and values of the kernel's settings that change what is measured.
    pub settings: Vec<(String, String)>,
    /// The project's commit, with `-dirty` where files differ from it.
    pub commit: &'static str,
    pub compiler: &'static str,
    pub profile: &'static str,
    /// What decided the order of turns, and the intervals.
    pub seed: u64,
}

impl Machine {
    pub fn this(seed: u64) -> Self {
        Self {
            processor: system::processor(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: system::total_memory().map(|bytes| bytes >> 20),
            hypervisor: system::hypervisor(),
            kernel: system::kernel(),
            settings: system::settings(),
            commit: env!("PAGEWISE_COMMIT"),
            compiler: env!("PAGEWISE_COMPILER"),
            profile: env!("PAGEWISE_PROFILE"),
            seed,
        }
    }

    /// The kind of machine, under which its tables stand.
    pub fn name(&self) -> String {
        let under = if self.hypervisor.is_empty() { "" } else { " under " };
        format!("{} × {}{under}{}", self.processors, self.processor, self.hypervisor)
    }

    /// Everything, in one line.
    pub fn line(&self) -> String {
        let memory = self.memory_mib.map(|mib| format!("; {:.1} GiB", mib as f64 / 1024.0));
        let settings: Vec<_> =
            self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        format!(
            "{}{}; {}; {}; pagewise {}; {}, {}; seed {}",
            self.name(),
            memory.unwrap_or_default(),
            self.kernel,
            settings.join(", "),
            self.commit,
            self.compiler,
            self.profile,
            self.seed
        )
    }
}

#[cfg(test)]
impl Machine {
    /// For tests of what is written.
    pub fn imagined() -> Self {
        Self {
            processor: "Abacus".into(),
            processors: 2,
            memory_mib: Some(2048),
            hypervisor: "KVM".into(),
            kernel: "Linux 9.9".into(),
            settings: vec![("transparent_hugepage".into(), "madvise".into())],
            commit: "0123456789ab",
            compiler: "rustc 1.88.0",
            profile: "release",
            seed: 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_everything_that_a_reader_needs_to_judge_a_table() {
        let line = Machine::imagined().line();
        assert_eq!(
            line,
            "2 × Abacus under KVM; 2.0 GiB; Linux 9.9; transparent_hugepage madvise; pagewise 0123456789ab; \
             rustc 1.88.0, release; seed 7"
        );
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let this = Machine::this(1);
        assert!(!this.processor.is_empty() && this.compiler.starts_with("rustc "), "{this:?}");
        if cfg!(target_os = "linux") {
            assert!(this.kernel.starts_with("Linux ") && this.memory_mib > Some(0), "{this:?}");
            for name in ["transparent_hugepage", "defrag", "shmem"] {
                let there = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
                assert_eq!(this.settings.iter().any(|(key, _)| key == name), there, "{this:?}");
            }
        }
    }
}
