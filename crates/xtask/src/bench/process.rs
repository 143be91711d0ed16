//! What a process takes of the machine: memory and processor time, by what `/proc` says.

use std::fs;
use std::path::PathBuf;

use super::error::{BenchError, During};

/// Bytes of the kernel's stack for each thread on x86-64.
const KERNEL_STACK: f64 = 16.0 * 1024.0;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Its own share of resident memory.
    pub(super) proportional: f64,
    pub(super) resident: f64,
    /// Stacks of its threads in the kernel, and page tables.
    pub(super) kernel: f64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Result<Self, BenchError> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .during("reading what the process takes")
        };
        let (rollup, status) = (read("smaps_rollup")?, read("status")?);
        Ok(Self {
            proportional: field(&rollup, "Pss")? * 1024.0,
            resident: field(&rollup, "Rss")? * 1024.0,
            kernel: field(&status, "VmPTE")? * 1024.0 + field(&status, "Threads")? * KERNEL_STACK,
        })
    }
}

/// Nanoseconds of processor time that the threads of a process have had, those that have ended left out. Threads that
/// run right now are counted up to their last turn.
pub(super) fn processor_time(pid: u32) -> Result<u64, BenchError> {
    const DOING: &str = "reading the processor time of a process";
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).during(DOING)? {
        let path: PathBuf = thread.during(DOING)?.path().join("schedstat");
        // One that has just ended has no file.
        let Ok(text) = fs::read_to_string(path) else {
            continue;
        };
        sum += text
            .split_whitespace()
            .next()
            .and_then(|number| number.parse::<u64>().ok())
            .ok_or_else(|| BenchError::new(DOING, format!("{text:?} is no schedstat")))?;
    }
    Ok(sum)
}

/// The number of a line `name: number ...`.
fn field(text: &str, name: &str) -> Result<f64, BenchError> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| BenchError::new("reading what the process takes", format!("no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Pss_Anon:  1 kB\nPss:   12 kB\nThreads:\t3\n";
        assert_eq!(field(text, "Pss").unwrap(), 12.0);
        assert_eq!(field(text, "Threads").unwrap(), 3.0);
        assert!(field(text, "Rss").is_err());
    }

    #[test]
    fn processor_time_grows_with_work() {
        let pid = std::process::id();
        let before = processor_time(pid).unwrap();
        while processor_time(pid).unwrap() == before {
            std::hint::black_box((0..1_000_000_u64).sum::<u64>());
        }
    }
}
