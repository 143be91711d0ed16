//! A sysfs tree in a directory: a machine with a port, a PF and its VFs, as Linux shows them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hdv_sriov::{PciAddress, SysfsPf};
use tempfile::TempDir;

/// A row of a `resource` file for nothing.
pub(crate) const NONE: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
/// Offset of the SR-IOV capability in the PF of [`Tree::igb`].
pub(crate) const SRIOV: usize = 0x160;

/// A sysfs tree.
#[derive(Debug)]
pub(crate) struct Tree {
    directory: TempDir,
}

/// The numbers of a PF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) total_vfs: u16,
    pub(crate) offered: u16,
    pub(crate) first_vf_offset: u16,
    pub(crate) vf_stride: u16,
}

impl Numbers {
    /// Those of an Intel 82576 as QEMU has it.
    pub(crate) const IGB: Self = Self {
        total_vfs: 8,
        offered: 7,
        first_vf_offset: 0x80,
        vf_stride: 2,
    };
}

impl Tree {
    /// A machine without functions.
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir_all(directory.path().join("bus/pci/devices")).unwrap();
        Self { directory }
    }

    /// A machine with a PF like QEMU's igb at 0000:01:00.0, below a port that leads to buses 1 to 2.
    pub(crate) fn igb() -> Self {
        let tree = Self::new();
        tree.port("pci0000:00/0000:00:02.0", 1, 2);
        tree.pf("pci0000:00/0000:00:02.0/0000:01:00.0", Numbers::IGB);
        tree
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of a function.
    pub(crate) fn function(&self, address: &str) -> PathBuf {
        self.path().join("bus/pci/devices").join(address)
    }

    pub(crate) fn open(&self, address: &str) -> Result<SysfsPf, hdv_sriov::VirtualizationError> {
        SysfsPf::open_in(self.path(), address.parse::<PciAddress>().unwrap())
    }

    /// Adds a function at a place below `devices`, with the config space `config`. Its name is its address.
    pub(crate) fn add(&self, place: &str, config: &[u8]) -> PathBuf {
        let directory = self.path().join("devices").join(place);
        fs::create_dir_all(&directory).unwrap();
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let link = self.function(&name);
        let _ = fs::remove_file(&link);
        symlink(Path::new("../../../devices").join(place), link).unwrap();
        fs::write(directory.join("config"), config).unwrap();
        directory
    }

    /// Adds a port.
    pub(crate) fn port(&self, place: &str, secondary: u8, subordinate: u8) {
        let mut config = vec![0; 4096];
        config[..4].copy_from_slice(&[0x36, 0x1b, 0x0c, 0x00]);
        config[0x0e] = 0x81;
        config[0x18..0x1b].copy_from_slice(&[0, secondary, subordinate]);
        self.add(place, &config);
    }

    /// Adds a PF with two 64-bit VF BARs of 16 KiB and the driver igb.
    pub(crate) fn pf(&self, place: &str, numbers: Numbers) -> PathBuf {
        let directory = self.add(place, &pf_config(numbers));
        let write = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
        write("sriov_totalvfs", format!("{}\n", numbers.offered));
        write("sriov_numvfs", "0\n".to_owned());
        write("sriov_offset", format!("{}\n", numbers.first_vf_offset));
        write("sriov_stride", format!("{}\n", numbers.vf_stride));
        write("sriov_vf_device", "10ca\n".to_owned());
        let all = u64::from(numbers.total_vfs) * 0x4000;
        let bar = |start: u64| {
            let end = start + all.saturating_sub(1);
            format!("{start:#018x} {end:#018x} 0x0000000000140204\n")
        };
        let resource = format!(
            "{}{}{NONE}{NONE}{}{NONE}{NONE}",
            NONE.repeat(7),
            bar(0xfe80_0000),
            bar(0xfe90_0000)
        );
        write("resource", resource);
        symlink("../../../../bus/pci/drivers/igb", directory.join("driver")).unwrap();
        directory
    }

    /// What Linux changes in a PF's directory when VFs are enabled.
    pub(crate) fn enable(&self, pf: &str, vfs: &[&str]) {
        let directory = fs::canonicalize(self.function(pf)).unwrap();
        let count = u16::try_from(vfs.len()).unwrap();
        fs::write(directory.join("sriov_numvfs"), format!("{count}\n")).unwrap();
        let mut config = fs::read(directory.join("config")).unwrap();
        if let Some(capability) = config.get_mut(SRIOV..) {
            capability[8] |= 1;
            capability[0x10..0x12].copy_from_slice(&count.to_le_bytes());
        }
        fs::write(directory.join("config"), config).unwrap();
        let devices = fs::canonicalize(self.path()).unwrap().join("devices");
        let parent = directory.parent().unwrap();
        let parent = parent.strip_prefix(devices).unwrap();
        for (vf, address) in vfs.iter().enumerate() {
            let place = parent.join(address);
            let vf_directory = self.add(place.to_str().unwrap(), &vf_config(vf));
            let start = 0xfe80_0000_u64 + 0x4000 * vf as u64;
            let end = start + 0x3fff;
            let resource = format!(
                "{start:#018x} {end:#018x} 0x0000000000140204\n{}",
                NONE.repeat(12)
            );
            fs::write(vf_directory.join("resource"), resource).unwrap();
            let link = directory.join(format!("virtfn{vf}"));
            symlink(Path::new("..").join(address), link).unwrap();
        }
    }

    /// What Linux changes when VFs are disabled.
    pub(crate) fn disable(&self, pf: &str) {
        let directory = fs::canonicalize(self.function(pf)).unwrap();
        fs::write(directory.join("sriov_numvfs"), "0\n").unwrap();
        change_config(&directory, |config| {
            config[SRIOV + 8] &= !1;
            config[SRIOV + 0x10..SRIOV + 0x12].fill(0);
        });
        for vf in 0.. {
            let link = directory.join(format!("virtfn{vf}"));
            let Ok(function) = fs::canonicalize(&link) else {
                break;
            };
            fs::remove_dir_all(&function).unwrap();
            fs::remove_file(link).unwrap();
        }
    }
}

/// Changes the config space in a function's directory.
pub(crate) fn change_config(directory: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = directory.join("config");
    let mut config = fs::read(&path).unwrap();
    change(&mut config);
    fs::write(path, config).unwrap();
}

/// The config space of a PF: ARI at 0x100, SR-IOV behind it.
pub(crate) fn pf_config(numbers: Numbers) -> Vec<u8> {
    let mut config = vec![0; 4096];
    config[..4].copy_from_slice(&[0x86, 0x80, 0xc9, 0x10]);
    let mut word = |at: usize, value: u32| {
        config[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    word(0x100, 0x000e | 1 << 16 | 0x160 << 20);
    let two = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    for (at, value) in [
        (0x00, 0x0010 | 1 << 16),
        (0x0c, two(numbers.total_vfs, numbers.total_vfs)),
        (0x14, two(numbers.first_vf_offset, numbers.vf_stride)),
        (0x18, two(0, 0x10ca)),
        (0x1c, 0x553),
        (0x20, 1),
        (0x24, 4),
        (0x30, 4),
    ] {
        word(SRIOV + at, value);
    }
    config
}

/// The config space of a VF that does not keep all the rules: Memory Space Enable can be read.
fn vf_config(vf: usize) -> Vec<u8> {
    let mut config = vec![0xff; 4];
    config.extend([0x06, 0x00, 0x10, 0x00, 0x01, 0x00, 0x00, 0x02]);
    config.resize(4096, 0);
    config[0x10] = 0x04;
    config[0x34] = 0x70;
    config[0x70] = 0x11;
    config[0xfff] = u8::try_from(vf).unwrap();
    config
}
