//! Describes the machine that runs the benchmark.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// The machine's properties that matter for interpreting the figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// Number of processors that this program may use.
    pub processors: usize,
    /// Whether it reports to be a virtual machine.
    pub is_virtual: bool,
    /// Kernel release.
    pub kernel: String,
    /// Load average of the last minute, before the run.
    pub load: f64,
}

impl Machine {
    /// Describes this machine.
    #[must_use]
    pub fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: allowed().len(),
            is_virtual: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, processors, is_virtual, kernel, load } = self;
        let kind = if *is_virtual { ", virtual" } else { "" };
        write!(f, "{processor}, {processors} processors{kind}, Linux {kernel}, load {load:.2}")
    }
}

fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&processor| set.is_set(processor)).collect()
}

/// Returns whether two threads can run at the same time.
#[must_use]
pub fn has_two_processors() -> bool {
    allowed().len() > 1
}

/// Pins the calling thread to the `index`th processor that the program may use, if there is one.
pub fn pin(index: usize) {
    if let Some(&processor) = allowed().get(index) {
        let mut set = CpuSet::new();
        set.set(processor);
        // If that fails, the figures get worse, but not wrong.
        let _ = sched_setaffinity(None, &set);
    }
}
