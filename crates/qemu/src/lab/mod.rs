//! The guest lab: a folder with a kernel, an initramfs and an empty disk, for virtual machines to try devices in.
//!
//! `vmlinuz` and `initrd` boot to a shell on every `console=` of the kernel's command line; the shell says `OpenHDV lab` and the
//! kernel's release when it takes input. With `openhdv.*` parameters there they boot into the guest program (if it was put in).
//! The power button powers the guest off. A guest with a network adapter asks for an address.
//!
//! What the guest program does is its own crate's; who boots the lab, and how, is its callers'.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::bundle::Bundle;
use crate::cache::Cache;
use crate::error::at;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;

/// The environment variable that names the lab's folder, in place of the one in the cache.
pub const VARIABLE: &str = "OPENHDV_LAB";

/// The bundles that a lab is made of.
pub const BUNDLES: [Bundle; 2] = [Bundle::KERNEL_CLOUD, Bundle::BUSYBOX];

/// Modules that its guest loads: what documents can ask for, the power button, and devices given to programs.
const MODULES: [&str; 10] = [
    "button",
    "evdev",
    "virtio_scsi",
    "sd_mod",
    "sr_mod",
    "isofs",
    "virtio_net",
    "vfio_iommu_type1",
    "vfio-pci",
    "uio_pci_generic",
];

/// The size of the empty disk, in bytes; it takes space only where it is written.
const DISK_SIZE: u64 = 64 << 20;

/// A lab's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lab {
    directory: PathBuf,
}

impl Lab {
    /// The user's: `$OPENHDV_LAB`, or `lab` in the cache. It need not exist.
    #[must_use]
    pub fn of(cache: &Cache) -> Self {
        Self::from_variable(std::env::var_os(VARIABLE), cache)
    }

    fn from_variable(variable: Option<OsString>, cache: &Cache) -> Self {
        let named = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
        // Documents are read by processes with other working directories.
        let named = named.map(|path| std::path::absolute(&path).unwrap_or(path));
        let directory = named.unwrap_or_else(|| cache.directory().join("lab"));
        Self { directory }
    }

    /// One at a place of the caller's choice.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// Its initramfs.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.directory.join("initrd")
    }

    /// Its disk: raw, empty when it was made; a lab that is made again leaves it alone.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// Whether it has what a guest boots.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.kernel().is_file() && self.initrd().is_file()
    }

    /// Makes it, from [`BUNDLES`] of the cache, with the guest program if there is one: a static program of Linux on x86-64.
    ///
    /// # Errors
    /// [`Error::NotFetched`](crate::Error::NotFetched), or what the system says.
    pub fn make(&self, cache: &Cache, guest_program: Option<&[u8]>) -> Result<()> {
        let kernel = Kernel::cached(cache, &Bundle::KERNEL_CLOUD)?;
        let busybox = cache.require(&Bundle::BUSYBOX)?.path("usr/bin/busybox");
        let busybox = fs::read(&busybox).map_err(at("reading", &busybox))?;
        let vmlinuz = fs::read(kernel.vmlinuz()).map_err(at("reading", kernel.vmlinuz()))?;
        let archive = initramfs(&kernel, &busybox, guest_program)?.archive();
        fs::create_dir_all(&self.directory).map_err(at("creating", &self.directory))?;
        self.put(&self.kernel(), &vmlinuz)?;
        self.put(&self.initrd(), &archive)?;
        let disk = self.disk();
        if !disk.exists() {
            let file = File::create(&disk).map_err(at("creating", &disk))?;
            file.set_len(DISK_SIZE).map_err(at("sizing", &disk))?;
        }
        Ok(())
    }

    /// Writes a file, whole or not at all; one that is the same already stays.
    fn put(&self, path: &Path, content: &[u8]) -> Result<()> {
        if fs::read(path).is_ok_and(|old| old == content) {
            return Ok(());
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)
            .map_err(at("creating a file in", &self.directory))?;
        file.write_all(content).map_err(at("writing", path))?;
        file.persist(path)
            .map_err(|error| at("writing", path)(error.error))?;
        Ok(())
    }
}

fn initramfs(kernel: &Kernel, busybox: &[u8], guest_program: Option<&[u8]>) -> Result<Initramfs> {
    let mut initramfs = Initramfs::new();
    initramfs.file("init", 0o755, include_str!("init.sh"))?;
    initramfs.file("bin/busybox", 0o755, busybox)?;
    if let Some(program) = guest_program {
        initramfs.file("bin/openhdv-guest", 0o755, program)?;
    }
    for directory in ["proc", "root"] {
        initramfs.directory(directory, 0o755)?;
    }
    initramfs.directory("tmp", 0o1777)?;
    initramfs.file("bin/lspci", 0o755, include_str!("lspci.sh"))?;
    initramfs.file("etc/udhcpc", 0o755, include_str!("udhcpc.sh"))?;
    // Its line is the last before the shell takes input: what is sent earlier is lost.
    initramfs.file(
        "etc/profile",
        0o644,
        "PS1='lab# '\necho \"OpenHDV lab $(uname -r)\"\n",
    )?;
    initramfs.file("etc/passwd", 0o644, "root::0:0:root:/root:/bin/sh\n")?;
    initramfs.file("etc/group", 0o644, "root:x:0:\n")?;
    // Where acpid looks for what the power button does.
    initramfs.file(
        "etc/acpi/PWRF/00000080",
        0o755,
        "#!/bin/busybox sh\nsync\npoweroff -f\n",
    )?;
    initramfs.modules(&kernel.modules(&MODULES)?)?;
    Ok(initramfs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_goes_before_the_cache() {
        let cache = Cache::at("/cache");
        let lab = |variable: Option<&str>| Lab::from_variable(variable.map(Into::into), &cache);
        assert_eq!(lab(None).kernel(), Path::new("/cache/lab/vmlinuz"));
        assert_eq!(lab(Some("")), lab(None));
        assert_eq!(lab(Some("/own")).initrd(), Path::new("/own/initrd"));
        assert!(lab(Some("own")).directory().is_absolute());
    }

    #[test]
    fn a_lab_needs_its_bundles() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("cache"));
        let lab = Lab::at(directory.path().join("lab"));
        let error = lab.make(&cache, None).unwrap_err();
        assert!(matches!(error, crate::Error::NotFetched { .. }), "{error}");
        assert!(!lab.is_ready());
    }
}
