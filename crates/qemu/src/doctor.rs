//! What this machine can run, and what is missing with the command that brings it: as data.
//!
//! Printing it is the command's (`hdv doctor`).

use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::apt::Apt;
use crate::bundle::Bundle;
use crate::cache::Cache;
use crate::kernel::Kernel;
use crate::locate::{Origin, Qemu, locate};
use crate::trial::{Trial, trial};
use crate::version::Version;

/// What brings a QEMU.
const QEMU_REMEDY: &str = "install QEMU 10.1 or newer (qemu-system-x86), or set OPENHDV_QEMU to one; in a checkout of \
     OpenHDV `cargo xtask lab` brings one";
/// What brings a guest kernel.
const KERNEL_REMEDY: &str = "name your own kernel in a document (KernelFilePath), or set OPENHDV_LAB to a folder with vmlinuz \
     and initrd; in a checkout of OpenHDV `cargo xtask lab` brings both";

/// What this machine can run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The cache directory; `None` when the environment names none.
    pub cache: Option<String>,
    /// The QEMU that would be used; `None` when there is none.
    pub qemu: Option<QemuFacts>,
    /// The guest kernel in the cache; `None` when there is none.
    pub kernel: Option<KernelFacts>,
    /// The accelerators, tried with that QEMU and that kernel, the fastest first; empty when
    /// either is missing.
    pub accelerators: Vec<Trial>,
    /// The bundles of packages in the cache.
    pub bundles: Vec<BundleFacts>,
    /// What is missing, in the order in which it is needed.
    pub missing: Vec<Missing>,
}

/// A QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuFacts {
    /// Its version.
    pub version: Version,
    /// The program.
    pub path: String,
    /// Where it was found, in words.
    pub origin: String,
}

/// A guest kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFacts {
    /// Its release.
    pub release: String,
    /// Its image.
    pub path: String,
    /// Whether it can give a device to a program in the guest (vfio-pci).
    pub vfio: bool,
}

/// A bundle in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFacts {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The packages that were asked for, with their versions where those are recorded.
    pub packages: Vec<String>,
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why it counts as missing.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// A step of an examination that may take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// This accelerator is tried.
    Accelerator(Accelerator),
}

impl Report {
    /// Whether a guest can be run.
    #[must_use]
    pub fn can_run_guests(&self) -> bool {
        self.qemu.is_some() && self.kernel.is_some() && self.accelerators.iter().any(Trial::works)
    }
}

/// Looks at this machine; boots the kernel for a moment under each accelerator unless that was
/// tried since the machine booted, which takes seconds. Fetches nothing. `progress` is called
/// before each step that may take long.
#[must_use]
pub fn examine(progress: &mut dyn FnMut(Step)) -> Report {
    match Cache::user() {
        Ok(cache) => examine_with(&cache, locate(&cache), progress),
        Err(error) => {
            let remedy = "set HOME or XDG_CACHE_HOME".to_owned();
            let missing = vec![Missing {
                what: "cache directory".to_owned(),
                why: error.to_string(),
                remedy,
            }];
            Report {
                cache: None,
                qemu: None,
                kernel: None,
                accelerators: vec![],
                bundles: vec![],
                missing,
            }
        }
    }
}

fn examine_with(
    cache: &Cache,
    qemu: crate::Result<Qemu>,
    progress: &mut dyn FnMut(Step),
) -> Report {
    let mut missing = Vec::new();
    let mut miss = |what: &str, why: &dyn ToString, remedy: &str| {
        missing.push(Missing {
            what: what.to_owned(),
            why: why.to_string(),
            remedy: remedy.to_owned(),
        });
    };
    let qemu = qemu.map_err(|error| miss("QEMU", &error, QEMU_REMEDY)).ok();
    let kernel = Kernel::cached(cache, &Bundle::KERNEL_CLOUD)
        .map_err(|error| miss("guest kernel", &error, KERNEL_REMEDY))
        .ok();
    let incomplete = qemu.is_none() || kernel.is_none();
    if incomplete && let Err(error) = Apt::available() {
        miss("a way to fetch packages", &error, "see the reason");
    }
    let mut accelerators = Vec::new();
    if let (Some(qemu), Some(kernel)) = (&qemu, &kernel) {
        for accelerator in Accelerator::ALL {
            progress(Step::Accelerator(accelerator));
            match trial(cache, qemu, kernel, accelerator) {
                Ok(trial) => accelerators.push(trial),
                Err(error) => miss(&format!("trial of {accelerator}"), &error, "see the reason"),
            }
        }
        if !accelerators.iter().any(Trial::works) {
            let why = "no accelerator boots the guest kernel; each says why above";
            miss(
                "accelerator",
                &why,
                "report this with the output of this command",
            );
        }
    }
    Report {
        cache: Some(cache.directory().display().to_string()),
        qemu: qemu.as_ref().map(qemu_facts),
        kernel: kernel.as_ref().map(kernel_facts),
        accelerators,
        bundles: bundles(cache),
        missing,
    }
}

fn qemu_facts(qemu: &Qemu) -> QemuFacts {
    let origin = match qemu.origin() {
        Origin::Variable => "named by OPENHDV_QEMU",
        Origin::Path => "installed, found in PATH",
        Origin::Cache => "unpacked in the cache",
    };
    QemuFacts {
        version: qemu.version(),
        path: qemu.path().display().to_string(),
        origin: origin.to_owned(),
    }
}

fn kernel_facts(kernel: &Kernel) -> KernelFacts {
    KernelFacts {
        release: kernel.release().to_owned(),
        path: kernel.vmlinuz().display().to_string(),
        vfio: kernel.has("vfio-pci"),
    }
}

fn bundles(cache: &Cache) -> Vec<BundleFacts> {
    let facts = |bundle: &Bundle| {
        let unpacked = cache.bundle(bundle).ok().flatten()?;
        let versions = &unpacked.manifest().versions;
        let package = |name: &&str| match versions.get(*name) {
            Some(version) => format!("{name} {version}"),
            None => (*name).to_owned(),
        };
        Some(BundleFacts {
            name: bundle.name.to_owned(),
            description: bundle.description.to_owned(),
            packages: bundle.packages.iter().map(package).collect(),
        })
    };
    Bundle::ALL.iter().filter_map(facts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn an_empty_machine_is_told_what_brings_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let mut steps = Vec::new();
        let no_qemu = Err(Error::NoCacheDirectory);
        let report = examine_with(&cache, no_qemu, &mut |step| steps.push(step));
        assert_eq!(steps, [], "nothing can be tried");
        assert!(!report.can_run_guests());
        let missing: Vec<_> = report
            .missing
            .iter()
            .map(|missing| missing.what.as_str())
            .collect();
        // A machine that cannot fetch says that too, and this one may be such a machine.
        assert_eq!(missing[..2], ["QEMU", "guest kernel"]);
        // Who has the command only has no cargo for it.
        for (missing, variable) in report.missing.iter().zip(["OPENHDV_QEMU", "OPENHDV_LAB"]) {
            let remedy = &missing.remedy;
            assert!(remedy.contains(variable), "{remedy}");
            let checkout = remedy.find("in a checkout of OpenHDV").unwrap();
            assert!(checkout < remedy.find("cargo").unwrap(), "{remedy}");
        }
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
