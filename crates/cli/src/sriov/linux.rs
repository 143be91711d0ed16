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
