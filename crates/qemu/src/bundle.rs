//! Named sets of Debian packages, and the manifest that records which of them were unpacked.
//!
//! How they are brought is [`crate::fetch`]'s, where they lie is [`crate::cache`]'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::program::Program;

/// What is taken along with a bundle's packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dependencies {
    /// Everything they depend on, down to the C library: their programs run on any Linux.
    All,
    /// Of what they depend on, directly or further, only packages whose names begin with one of
    /// these.
    Named(&'static [&'static str]),
}

/// A named set of packages of one suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The bundle's name: lower case letters, digits and `-`; also its directory in the cache.
    pub name: &'static str,
    /// What it is, for people.
    pub description: &'static str,
    /// The suite of Debian, `trixie` or `trixie-backports`.
    pub suite: &'static str,
    /// The packages.
    pub packages: &'static [&'static str],
    /// What comes along.
    pub dependencies: Dependencies,
}

impl Bundle {
    /// QEMU for x86-64 guests, 11.1 at the time of writing.
    pub const QEMU: Self = Self {
        name: "qemu",
        description: "QEMU for x86-64 guests",
        suite: "trixie-backports",
        packages: &["qemu-system-x86"],
        dependencies: Dependencies::All,
    };

    /// The small guest kernel: virtual machines' drivers, NVMe, VFIO and UIO.
    pub const KERNEL_CLOUD: Self = Self {
        name: "kernel-cloud",
        description: "a small Linux kernel for guests",
        suite: "trixie",
        packages: &["linux-image-cloud-amd64"],
        dependencies: Dependencies::Named(&["linux-image-", "linux-modules-"]),
    };

    /// The full guest kernel, with most drivers of real hardware.
    pub const KERNEL_FULL: Self = Self {
        name: "kernel-full",
        description: "a Linux kernel for guests with most drivers",
        suite: "trixie",
        packages: &["linux-image-amd64"],
        dependencies: Dependencies::Named(&["linux-image-", "linux-modules-"]),
    };

    /// UEFI firmware for x86-64 guests (OVMF).
    pub const OVMF: Self = Self {
        name: "ovmf",
        description: "UEFI firmware for guests",
        suite: "trixie",
        packages: &["ovmf"],
        dependencies: Dependencies::Named(&[]),
    };

    /// A static busybox: the programs of the guest lab.
    pub const BUSYBOX: Self = Self {
        name: "busybox",
        description: "a shell and small programs for guests",
        suite: "trixie",
        packages: &["busybox-static"],
        dependencies: Dependencies::Named(&[]),
    };

    /// `lspci` and the list of PCI identities.
    pub const PCIUTILS: Self = Self {
        name: "pciutils",
        description: "lspci and the list of PCI identities",
        suite: "trixie",
        packages: &["pciutils", "pci.ids"],
        dependencies: Dependencies::All,
    };

    /// valgrind, and the C library that checked programs run with: memcheck needs the symbols of the
    /// very dynamic loader it watches.
    pub const VALGRIND: Self = Self {
        name: "valgrind",
        description: "valgrind and a C library with symbols",
        suite: "trixie",
        packages: &["valgrind", "libc6", "libc6-dbg", "libstdc++6"],
        dependencies: Dependencies::All,
    };

    /// `pkgconf`, which answers as pkg-config does.
    pub const PKGCONF: Self = Self {
        name: "pkgconf",
        description: "pkgconf, which answers as pkg-config",
        suite: "trixie",
        packages: &["pkgconf-bin"],
        dependencies: Dependencies::All,
    };

    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::QEMU,
        Self::KERNEL_CLOUD,
        Self::KERNEL_FULL,
        Self::OVMF,
        Self::BUSYBOX,
        Self::PCIUTILS,
        Self::VALGRIND,
        Self::PKGCONF,
    ];
}

/// What was unpacked, as recorded beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The bundle's name.
    pub bundle: String,
    /// The suite it was taken from.
    pub suite: String,
    /// The packages that were asked for.
    pub packages: Vec<String>,
    /// Every package that was unpacked, with its version.
    pub versions: BTreeMap<String, String>,
}

impl Manifest {
    /// Whether it records what `bundle` asks for today.
    #[must_use]
    pub fn is_of(&self, bundle: &Bundle) -> bool {
        self.bundle == bundle.name && self.suite == bundle.suite && self.packages == bundle.packages
    }
}

/// A bundle that is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    pub(crate) root: PathBuf,
    pub(crate) manifest: Manifest,
}

impl Unpacked {
    /// The directory that stands for `/` of its packages.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file of its packages, by its path below `/`.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative.trim_start_matches('/'))
    }

    /// A program of its packages, for example `usr/bin/lspci`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when it is not there.
    pub fn program(&self, relative: &str) -> Result<Program> {
        Program::unpacked(&self.root, relative.trim_start_matches('/'))
    }

    /// What was unpacked.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(bundle: &Bundle) -> Manifest {
        Manifest {
            bundle: bundle.name.to_owned(),
            suite: bundle.suite.to_owned(),
            packages: bundle.packages.iter().map(ToString::to_string).collect(),
            versions: BTreeMap::from([("libpci3".to_owned(), "1:3.13.0-2".to_owned())]),
        }
    }

    #[test]
    fn a_manifest_is_of_its_bundle_only_while_that_asks_for_the_same() {
        let recorded = manifest(&Bundle::PCIUTILS);
        assert!(recorded.is_of(&Bundle::PCIUTILS));
        assert!(!recorded.is_of(&Bundle {
            suite: "trixie-backports",
            ..Bundle::PCIUTILS
        }));
        assert!(!recorded.is_of(&Bundle {
            packages: &["pciutils"],
            ..Bundle::PCIUTILS
        }));
        assert!(!recorded.is_of(&Bundle::QEMU));
    }

    #[test]
    fn a_manifest_survives_its_file() {
        let recorded = manifest(&Bundle::PCIUTILS);
        let text = serde_json::to_string(&recorded).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), recorded);
    }
}
