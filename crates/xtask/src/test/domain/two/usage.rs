//! What this process uses: descriptors, threads, memory.

use std::fs;

use crate::test::Failure;

/// What memory may grow by, in KiB for each device that has come and gone: less than anything that is kept of one.
const GROWTH_KIB: u64 = 4;
/// And once: what an allocator keeps varies.
const SLACK_KIB: u64 = 1024;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    descriptors: usize,
    threads: usize,
    /// Resident memory in KiB.
    resident: u64,
}

impl Usage {
    /// # Errors
    /// The system does not tell.
    pub(super) fn now() -> Result<Self, Failure> {
        let status = fs::read_to_string("/proc/self/status")?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or("no VmRSS")?
            .parse()?;
        Ok(Self {
            descriptors: fs::read_dir("/proc/self/fd")?.count(),
            threads: fs::read_dir("/proc/self/task")?.count(),
            resident,
        })
    }

    /// Fails if there is more after `devices` comings and goings.
    ///
    /// # Errors
    /// Of what.
    pub(super) fn verdict(records: &[Self], devices: u32) -> Result<String, Failure> {
        let [before, after] = records else {
            return Err(format!("counted {} times, not twice", records.len()).into());
        };
        let seen = format!("before {before:?}, after {after:?}");
        let most = SLACK_KIB + GROWTH_KIB * u64::from(devices);
        if after.descriptors > before.descriptors
            || after.threads > before.threads
            || after.resident > before.resident + most
        {
            return Err(seen.into());
        }
        Ok(format!(
            "descriptors {} and {}, threads {} and {}, resident memory {} KiB before and {} KiB after {devices} plugs",
            before.descriptors,
            after.descriptors,
            before.threads,
            after.threads,
            before.resident,
            after.resident
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_a_leak() {
        let before = Usage {
            descriptors: 20,
            threads: 10,
            resident: 30_000,
        };
        let verdict = |after: Usage| Usage::verdict(&[before.clone(), after], 100);
        verdict(before.clone()).unwrap();
        for (descriptors, threads, resident) in
            [(21, 10, 30_000), (20, 11, 30_000), (20, 10, 31_425)]
        {
            verdict(Usage {
                descriptors,
                threads,
                resident,
            })
            .unwrap_err();
        }
        Usage::verdict(&[before], 100).unwrap_err();
    }
}
