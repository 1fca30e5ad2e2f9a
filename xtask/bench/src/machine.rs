//! The description of the machine that measures.

use std::fs;
use std::thread;

use anyhow::{Context as _, Result};

/// Processor, number of CPUs and kernel, in one line.
///
/// # Errors
/// When /proc is not mounted.
pub(crate) fn describe() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    let cpus = thread::available_parallelism().context("cannot count CPUs")?;
    let model = model(&cpuinfo).unwrap_or("processor of unknown model");
    Ok(format!("{model}, {cpus} CPUs, Linux {} ({})", kernel.trim(), std::env::consts::ARCH))
}

/// Some architectures do not name their model.
fn model(cpuinfo: &str) -> Option<&str> {
    cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
}

#[cfg(test)]
mod tests {
    use super::model;

    #[test]
    fn the_model_is_read_where_it_is_named() {
        assert_eq!(model("processor\t: 0\nmodel name\t: Some CPU @ 3GHz\n"), Some("Some CPU @ 3GHz"));
        assert_eq!(model("processor\t: 0\nBogoMIPS\t: 48.00\n"), None);
    }
}
