//! PFs of this machine, in sysfs.

use std::path::{Path, PathBuf};

use hdv_pci::spec::CONFIG_SPACE_SIZE;
use hdv_sriov::{
    EnableVirtualization, PciAddress, PciVirtualization, SysfsPf, SysfsPfStatus,
    VirtualizationError,
};

use super::refusal::{Refusal, vf_not_enabled};

/// Bytes of config space that Linux shows without permission.
const PUBLIC_CONFIG: usize = 64;

/// A PF of this machine, and how it was when it was looked at.
#[derive(Clone, Debug)]
pub(crate) struct LinuxPf {
    sysfs: PathBuf,
    address: PciAddress,
    pub(super) status: SysfsPfStatus,
}

/// Where Linux lists the functions of a machine.
pub(super) fn devices(sysfs: &Path) -> PathBuf {
    sysfs.join("bus/pci/devices")
}

impl LinuxPf {
    pub(super) fn open(sysfs: &Path, address: PciAddress) -> Result<Self, VirtualizationError> {
        Ok(Self {
            sysfs: sysfs.to_owned(),
            address,
            status: SysfsPf::open_in(sysfs, address)?.status()?,
        })
    }

    pub(super) fn address(&self) -> PciAddress {
        self.address
    }

    /// Its directory, by which it can be named.
    pub(super) fn path(&self) -> PathBuf {
        devices(&self.sysfs).join(self.address.to_string())
    }

    pub(super) fn enable(&self, name: &str, num_vfs: u16) -> Result<Self, Refusal> {
        let again = format!("enable {name} {num_vfs}");
        self.change(name, &again, EnableVirtualization::enable(num_vfs))
    }

    pub(super) fn disable(&self, name: &str) -> Result<Self, Refusal> {
        let again = format!("disable {name}");
        self.change(name, &again, EnableVirtualization::disable())
    }

    fn change(
        &self,
        name: &str,
        again: &str,
        request: EnableVirtualization,
    ) -> Result<Self, Refusal> {
        let change = || {
            SysfsPf::open_in(&self.sysfs, self.address)?.enable_virtualization(request)?;
            Self::open(&self.sysfs, self.address)
        };
        change().map_err(|error| Refusal::of_linux(name, again, &error))
    }

    /// The PF's config space: 4096 bytes, or the 256 it has.
    pub(super) fn config(&self, name: &str) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![0; CONFIG_SPACE_SIZE.into()];
        let length = SysfsPf::open_in(&self.sysfs, self.address)
            .and_then(|pf| pf.config_read(0, &mut bytes))
            .map_err(|error| Refusal::of_linux(name, &format!("config {name}"), &error))?;
        if length <= PUBLIC_CONFIG {
            return Err(Refusal::new(format!(
                "{}: only {length} bytes of config space can be read without permission",
                self.path().join("config").display()
            ))
            .remedy(format!("As root: hdv sriov config {name}")));
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Where a VF is, and its own config space.
    pub(super) fn vf_config(&self, name: &str, vf: u16) -> Result<(PciAddress, Vec<u8>), Refusal> {
        let status = &self.status;
        let read = || {
            let pf = SysfsPf::open_in(&self.sysfs, self.address)?;
            let place = pf.location(vf)?;
            let mut bytes = vec![0; CONFIG_SPACE_SIZE.into()];
            let length = pf.virtual_function_data(vf, 0, &mut bytes)?;
            bytes.truncate(length);
            let address = PciAddress {
                segment: place.segment,
                routing_id: place.routing_id,
            };
            Ok((address, bytes))
        };
        read().map_err(|error| match error {
            VirtualizationError::NotEnabled { num_vfs, .. } => {
                let total = status.total_vfs.or(status.offered_vfs).unwrap_or(u16::MAX);
                vf_not_enabled(name, vf, num_vfs, total)
            }
            VirtualizationError::NoSuchVf { total_vfs, .. } => {
                vf_not_enabled(name, vf, 0, total_vfs)
            }
            error => Refusal::of_linux(name, &format!("config {name} {vf}"), &error),
        })
    }
}

/// Over a tree of files like Linux's sysfs; how the real one behaves is tested in a guest.
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sriov::Pf;
    use crate::sriov::find::{Named, named, of_this_machine};
    use crate::sriov::view::{PfDetails, summary};
    use crate::sriov::{find, render};
    use crate::style::Paint;

    const PF: &str = "0000:01:00.0";
    const SRIOV: usize = 0x160;
    /// A row of a `resource` file for nothing.
    const NONE: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

    /// A PF with 8 VFs, of which its driver offers 7, and those that are enabled.
    fn machine(vfs: u16) -> tempfile::TempDir {
        let sysfs = tempfile::tempdir().unwrap();
        let config = pf_config(vfs);
        let pf = function(sysfs.path(), PF, &config);
        let write = |name: &str, text: &str| fs::write(pf.join(name), text).unwrap();
        write("sriov_totalvfs", "7\n");
        write("sriov_numvfs", &format!("{vfs}\n"));
        write("sriov_offset", "128\n");
        write("sriov_stride", "2\n");
        write("sriov_vf_device", "10ca\n");
        let bar = "0x00000000fe800000 0x00000000fe81ffff 0x0000000000140204\n";
        write(
            "resource",
            &format!("{}{bar}{}", NONE.repeat(7), NONE.repeat(5)),
        );
        symlink("../../drivers/igb", pf.join("driver")).unwrap();
        for vf in 0..vfs {
            let address = format!("0000:01:10.{}", vf * 2);
            let mut config = vec![0xff; 4];
            config.resize(4096, 0);
            config[0x0a..0x0c].copy_from_slice(&[0x00, 0x02]);
            let directory = function(sysfs.path(), &address, &config);
            let start = 0xfe80_0000 + u64::from(vf) * 0x4000;
            let end = start + 0x3fff;
            let resource = format!(
                "{start:#018x} {end:#018x} 0x0000000000140204\n{}",
                NONE.repeat(12)
            );
            fs::write(directory.join("resource"), resource).unwrap();
            symlink("../../drivers/vfio-pci", directory.join("driver")).unwrap();
            symlink(format!("../{address}"), pf.join(format!("virtfn{vf}"))).unwrap();
        }
        sysfs
    }

    fn function(sysfs: &Path, address: &str, config: &[u8]) -> PathBuf {
        let directory = devices(sysfs).join(address);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("config"), config).unwrap();
        directory
    }

    fn pf_config(vfs: u16) -> Vec<u8> {
        let mut config = vec![0; 4096];
        config[..4].copy_from_slice(&[0x86, 0x80, 0xc9, 0x10]);
        config[0x100..0x104].copy_from_slice(&(0x1_000e_u32 | 0x160 << 20).to_le_bytes());
        for (at, value) in [
            (0x00, 0x0001_0010),
            (0x08, u32::from(vfs != 0) | 1 << 3),
            (0x0c, 0x0008_0008),
            (0x10, vfs.into()),
            (0x14, 0x0002_0080),
            (0x18, 0x10ca_0000),
            (0x1c, 0x553),
            (0x20, 1),
            (0x24, 0xfe80_0004_u32),
        ] {
            let at = SRIOV + at;
            config[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        config
    }

    fn only(sysfs: &Path) -> Named {
        let (pfs, errors) = of_this_machine(sysfs).unwrap();
        assert_eq!(errors, Vec::<String>::new());
        let mut pfs = named(pfs);
        assert_eq!(pfs.len(), 1);
        pfs.remove(0)
    }

    #[test]
    fn a_pf_of_this_machine_is_listed_and_shown() {
        let sysfs = machine(2);
        let pf = only(sysfs.path());
        assert_eq!(pf.name, PF);
        let text = render::list(&[summary(&pf)], &["x\u{1b}".to_owned()], Paint::none());
        for part in [
            "2 of 8, driver offers 7",
            "driver igb",
            "this machine",
            "warning: x?",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }

        let details = PfDetails::of(&pf);
        let text = render::details(&details, Paint::none());
        for part in [
            "168  SR-IOV Control                     0009      VF Enable, VF MSE",
            "128 from the PF to VF 0",
            "VF BAR0  16 KiB        memory, 64 bit  0xfe800000",
            "1   0000:01:10.2  BAR0 0xfe804000  driver vfio-pci",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let json = serde_json::to_value(&details).unwrap();
        assert_eq!(json["kind"], "linux");
        assert_eq!(json["driver"], "igb");
        assert_eq!(json["offered_vfs"], 7);
        assert_eq!(json["capability"], "0x160");
        assert_eq!(json["vfs"][1]["driver"], "vfio-pci");

        let (address, bytes) = pf.config(Some(1)).unwrap();
        assert_eq!(address.to_string(), "0000:01:10.2");
        assert_eq!(bytes[..4], [0xff; 4]);
        assert_eq!(bytes.len(), 4096);
        let refusal = pf.config(Some(2)).unwrap_err();
        assert!(refusal.what.contains("2 VFs are enabled"), "{refusal}");
        let refusal = pf.config(Some(8)).unwrap_err();
        assert!(refusal.what.contains("TotalVFs is 8"), "{refusal}");

        let refusal = pf.enable(3).unwrap_err();
        assert!(
            refusal.what.contains("2 VFs are enabled already"),
            "{refusal}"
        );
        assert_eq!(
            refusal.remedy.as_deref(),
            Some("`hdv sriov disable 0000:01:00.0` disables them.")
        );
        let refusal = pf.enable(9).unwrap_err();
        assert!(refusal.what.contains("1 to 8 are possible"), "{refusal}");
    }

    #[test]
    fn its_directory_names_it() {
        let sysfs = machine(0);
        let pf = only(sysfs.path());
        let Pf::Linux(linux) = &pf.pf else {
            panic!("{pf:?}");
        };
        let wanted = find::Wanted::Path(linux.path());
        assert!(wanted.is(&pf.pf));
        assert!(!find::Wanted::Path(sysfs.path().to_owned()).is(&pf.pf));
    }

    #[test]
    fn what_takes_permission_is_told() {
        let sysfs = machine(1);
        let config = devices(sysfs.path()).join(PF).join("config");
        let mut bytes = fs::read(&config).unwrap();
        bytes.truncate(PUBLIC_CONFIG);
        fs::write(config, bytes).unwrap();
        let pf = only(sysfs.path());
        let refusal = pf.config(None).unwrap_err();
        assert!(refusal.what.contains("only 64 bytes"), "{refusal}");
        assert_eq!(
            refusal.remedy.as_deref(),
            Some("As root: hdv sriov config 0000:01:00.0")
        );
        let text = render::details(&PfDetails::of(&pf), Paint::none());
        for part in [
            "warning: ",
            "only 64 bytes",
            "enabled VFs     1, driver offers 7",
            "0000:01:10.0  BAR0 0xfe800000",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }
}
