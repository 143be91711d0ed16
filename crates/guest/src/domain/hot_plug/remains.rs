//! What the kernel keeps: of devices that are gone, nothing.

use std::collections::BTreeMap;
use std::fs;

use crate::checks::{Failure, ensure};
use crate::platform::Error;
use crate::platform::sysfs::DEVICES;

/// Has the kernel let go of what it only keeps in case.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
/// All of it.
const ALL_CACHES: &str = "3";
/// What the kernel keeps of devices, in KiB for each that has come and gone: less than the least that is kept of one.
const GROWTH_KIB: u64 = 1;
/// And once: what allocators keep varies.
const SLACK_KIB: u64 = 512;
/// The same of all memory: pages wait at processors for somebody to want them.
const AVAILABLE_SLACK_KIB: u64 = 2048;

/// A count of what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remains {
    /// The functions that there are.
    functions: Vec<String>,
    /// What is at which address.
    memory: String,
    /// What has which interrupt.
    interrupts: Vec<String>,
    descriptors: usize,
    /// Memory that the kernel itself keeps for good, in KiB.
    kernel: u64,
    /// Memory that programs could have, in KiB.
    available: u64,
}

impl Remains {
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn count() -> Result<Self, Failure> {
        for _ in 0..2 {
            fs::write(DROP_CACHES, ALL_CACHES)
                .map_err(|error| Error::file(DROP_CACHES, "write", error))?;
        }
        let text = read("/proc/meminfo")?;
        let amounts: BTreeMap<_, _> = text.lines().filter_map(amount).collect();
        let of = |name: &str| {
            let amount = amounts.get(name).copied();
            amount.ok_or_else(|| Failure::new(format!("/proc/meminfo has no {name}")))
        };
        let interrupts = read("/proc/interrupts")?;
        Ok(Self {
            functions: names(DEVICES)?,
            memory: read("/proc/iomem")?,
            interrupts: interrupts.lines().map(handlers).collect(),
            descriptors: names("/proc/self/fd")?.len(),
            kernel: of("SUnreclaim")? + of("KernelStack")? + of("Percpu")?,
            available: of("MemAvailable")?,
        })
    }

    /// Fails if there is more than before, `devices` comings and goings ago; what of memory there is more.
    ///
    /// # Errors
    /// Which there is more of.
    pub(super) fn compare(&self, before: &Self, devices: u32) -> Result<String, Failure> {
        let same = |what: &str, is_same: bool| {
            ensure(is_same, || format!("{what}: {self:?}, before {before:?}"))
        };
        same("functions", self.functions == before.functions)?;
        same("addresses", self.memory == before.memory)?;
        same("interrupts", self.interrupts == before.interrupts)?;
        same("descriptors", self.descriptors == before.descriptors)?;
        let growth = GROWTH_KIB * u64::from(devices);
        let seen = format!(
            "kernel memory {} KiB before, {} KiB after; available {} KiB and {} KiB",
            before.kernel, self.kernel, before.available, self.available
        );
        let fits = self.kernel <= before.kernel + growth + SLACK_KIB
            && before.available <= self.available + growth + AVAILABLE_SLACK_KIB;
        ensure(fits, || seen.clone())?;
        Ok(seen)
    }
}

fn read(path: &str) -> Result<String, Failure> {
    Ok(fs::read_to_string(path).map_err(|error| Error::file(path, "read", error))?)
}

fn names(directory: &str) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(directory).map_err(|error| Error::file(directory, "list", error))?;
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.flatten().map(name).collect();
    names.sort();
    Ok(names)
}

/// `MemAvailable:     471552 kB`.
fn amount(line: &str) -> Option<(&str, u64)> {
    let (name, rest) = line.split_once(':')?;
    let amount = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, amount))
}

/// A line of interrupts without how many there were: `24:  123  VMD-MSI 1-edge  pciehp`.
fn handlers(line: &str) -> String {
    let words = line.split_whitespace();
    let words: Vec<_> = words.filter(|word| word.parse::<u64>().is_err()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_handlers_are_told_from_the_rest() {
        assert_eq!(
            amount("SUnreclaim:        9216 kB"),
            Some(("SUnreclaim", 9216))
        );
        assert_eq!(amount("nothing"), None);
        assert_eq!(
            handlers(" 25:       7731   PCI-MSIX-0000:00:01.0    1-edge      vmd0, pciehp"),
            "25: PCI-MSIX-0000:00:01.0 1-edge vmd0, pciehp"
        );
    }

    #[test]
    fn what_is_left_is_told() {
        let before = Remains {
            functions: vec!["10000:00:01.0".to_owned()],
            memory: String::new(),
            interrupts: vec!["vmd0".to_owned()],
            descriptors: 3,
            kernel: 10_000,
            available: 400_000,
        };
        let with = |change: fn(&mut Remains)| {
            let mut after = before.clone();
            change(&mut after);
            after.compare(&before, 200)
        };
        with(|_| {}).unwrap();
        with(|after| after.kernel += SLACK_KIB + 200 * GROWTH_KIB).unwrap();
        with(|after| after.kernel += SLACK_KIB + 200 * GROWTH_KIB + 1).unwrap_err();
        with(|after| after.available -= AVAILABLE_SLACK_KIB + 200 * GROWTH_KIB + 1).unwrap_err();
        with(|after| after.functions.push("10000:01:00.0".to_owned())).unwrap_err();
        with(|after| after.memory.push('x')).unwrap_err();
        with(|after| after.interrupts.clear()).unwrap_err();
        with(|after| after.descriptors = 4).unwrap_err();
    }
}
