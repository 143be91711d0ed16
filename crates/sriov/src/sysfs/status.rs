//! What can be told of a PF of this machine at one time, for people and programs to look at.

use serde::{Deserialize, Serialize};

use super::SysfsPf;
use super::resources;
use crate::error::VirtualizationError;
use crate::interface::PciVirtualization;
use crate::registers::SriovRegisters;

/// A PF of this machine. What takes permission to know is `None` without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysfsPfStatus {
    /// Its address, `ssss:bb:dd.f`.
    pub address: String,
    /// Its driver, if one is bound.
    pub driver: Option<String>,
    /// TotalVFs of the capability.
    pub total_vfs: Option<u16>,
    /// `sriov_totalvfs`: how many of them Linux and the driver offer; `None` if Linux knows of no SR-IOV there.
    pub offered_vfs: Option<u16>,
    /// NumVFs.
    pub num_vfs: u16,
    /// VF Enable.
    pub vf_enable: bool,
    /// First VF Offset.
    pub first_vf_offset: Option<u16>,
    /// VF Stride.
    pub vf_stride: Option<u16>,
    /// The device id of the VFs.
    pub vf_device_id: Option<u16>,
    /// Buses captured beyond the PF's own.
    pub captured_buses: u8,
    /// What VF BARs would have read after all ones were written.
    pub probed_bars: Option<[u32; 6]>,
    /// The VFs that are enabled, in their order.
    pub vfs: Vec<SysfsVfStatus>,
}

/// A VF that is enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysfsVfStatus {
    /// Its number, from 0.
    pub vf: u16,
    /// Its address, `ssss:bb:dd.f`.
    pub address: String,
    /// Its driver, if one is bound: who uses it.
    pub driver: Option<String>,
    /// Where its BARs are on the bus; `None` for those it does not have.
    pub bars: [Option<u64>; 6],
}

impl SysfsPf {
    /// What can be told of it now.
    ///
    /// # Errors
    /// It is gone, has no SR-IOV, or sysfs says what cannot be.
    pub fn status(&self) -> Result<SysfsPfStatus, VirtualizationError> {
        self.check_alive()?;
        self.check_capable()?;
        let registers = self.registers()?;
        let routing = self.routing(registers.as_ref())?;
        let enabled = self.enabled_vfs()?;
        let mut vfs = Vec::new();
        for vf in 0..enabled {
            // One that has just been disabled is left out.
            vfs.extend(self.vf_status(vf)?);
        }
        Ok(SysfsPfStatus {
            address: self.address().to_string(),
            driver: self.driver()?,
            total_vfs: registers.map(|registers| registers.total_vfs),
            offered_vfs: self.directory.number("sriov_totalvfs")?,
            num_vfs: registers.map_or(enabled, |registers| registers.num_vfs),
            vf_enable: registers.map_or(enabled != 0, |registers| registers.vf_enable()),
            first_vf_offset: routing.map(|routing| routing.first_vf_offset),
            vf_stride: routing.map(|routing| routing.vf_stride),
            vf_device_id: match registers {
                Some(registers) => Some(registers.vf_device_id),
                None => self.directory.hexadecimal("sriov_vf_device")?,
            },
            captured_buses: self.captured_buses(),
            probed_bars: self.probed_bars().ok(),
            vfs,
        })
    }

    /// Its SR-IOV registers; `None` without SR-IOV, and without permission to see them.
    ///
    /// # Errors
    /// It is gone.
    pub fn sriov_registers(&self) -> Result<Option<SriovRegisters>, VirtualizationError> {
        self.check_alive()?;
        self.registers()
    }

    fn vf_status(&self, vf: u16) -> Result<Option<SysfsVfStatus>, VirtualizationError> {
        let Some(address) = self.directory.address(&format!("virtfn{vf}"))? else {
            return Ok(None);
        };
        let rows = self.rows(&format!("virtfn{vf}/resource"))?;
        Ok(Some(SysfsVfStatus {
            vf,
            address: address.to_string(),
            driver: self.directory.link(&format!("virtfn{vf}/driver"))?,
            bars: resources::addresses(&rows.unwrap_or_default()),
        }))
    }
}
