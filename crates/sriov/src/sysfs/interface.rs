//! The six routines of the interface over a PF of this machine.

use std::io;
use std::os::unix::fs::FileExt;

use hdv::pci::spec::CONFIG_SPACE_SIZE;
use hdv::pci::spec::sriov::SriovCapabilities;
use hdv::pci::{RoutingId, VfRouting};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::directory::{HEADER, WriteError, failed, hidden, is_absent};
use super::refusal::{Circumstances, disregarded, refused};
use super::{Capability, SysfsPf, vf_rules};
use crate::error::VirtualizationError;
use crate::interface::{EnableVirtualization, Location, PciVirtualization};
use crate::registers::{SriovRegisters, vf_routing_id};

/// The attribute that enables and disables VFs.
const NUM_VFS: &str = "sriov_numvfs";
/// Offset of the header type (7.5.1.1.9).
const HEADER_TYPE: usize = 0x0e;
/// Offset of the secondary bus number in a port's config space (7.5.1.3.3).
const SECONDARY: usize = 0x19;
/// Offset of the subordinate bus number in a port's config space (7.5.1.3.4).
const SUBORDINATE: usize = 0x1a;
/// Bits of the header type that say the layout of the header.
const HEADER_LAYOUT: u8 = 0x7f;
/// The layout of a port's header.
const HEADER_BRIDGE: u8 = 1;

/// How many VFs there can be.
#[derive(Clone, Copy, Debug)]
enum TotalVfs {
    /// TotalVFs of the capability.
    Exactly(u16),
    /// What Linux offers; the capability, which is hidden, may have more.
    AtLeast(u16),
}

impl SysfsPf {
    fn total_vfs(
        &self,
        registers: Option<&SriovRegisters>,
    ) -> Result<TotalVfs, VirtualizationError> {
        if let Some(registers) = registers {
            return Ok(TotalVfs::Exactly(registers.total_vfs));
        }
        Ok(match self.capability {
            Capability::None => TotalVfs::Exactly(0),
            Capability::At { .. } | Capability::Hidden => {
                let offered = self.directory.number("sriov_totalvfs")?;
                TotalVfs::AtLeast(offered.unwrap_or_default())
            }
        })
    }

    /// `count` VFs are at most TotalVFs; `error` says that they are not.
    fn check_total(
        &self,
        registers: Option<&SriovRegisters>,
        count: u32,
        error: impl FnOnce(u16) -> VirtualizationError,
    ) -> Result<(), VirtualizationError> {
        match self.total_vfs(registers)? {
            TotalVfs::Exactly(total) | TotalVfs::AtLeast(total) if count <= total.into() => Ok(()),
            TotalVfs::Exactly(total) => Err(error(total)),
            TotalVfs::AtLeast(_) => Err(hidden(self.directory.path("config"))),
        }
    }

    fn check_vf(
        &self,
        registers: Option<&SriovRegisters>,
        vf: u16,
    ) -> Result<(), VirtualizationError> {
        self.check_total(registers, u32::from(vf) + 1, |total_vfs| {
            VirtualizationError::NoSuchVf { vf, total_vfs }
        })
    }

    /// Checks that a VF can be and that a range is in its config space. Returns how many of its bytes are.
    fn check_access(
        &self,
        vf: u16,
        offset: u32,
        length: usize,
    ) -> Result<(u16, usize), VirtualizationError> {
        self.check_alive()?;
        self.check_capable()?;
        self.check_vf(self.registers()?.as_ref(), vf)?;
        let start = u16::try_from(offset)
            .ok()
            .filter(|start| *start < CONFIG_SPACE_SIZE && length != 0)
            .ok_or(VirtualizationError::Range { offset, length })?;
        Ok((start, length.min(usize::from(CONFIG_SPACE_SIZE - start))))
    }

    fn not_enabled(&self, vf: u16) -> VirtualizationError {
        match self.enabled_vfs() {
            Ok(num_vfs) => VirtualizationError::NotEnabled { vf, num_vfs },
            Err(error) => error,
        }
    }

    /// A VF is there and answers.
    fn check_vf_alive(&self, vf: u16, config: &str) -> Result<(), VirtualizationError> {
        let mut header = [0; HEADER];
        match self.directory.bytes(config, 0, &mut header)? {
            None => Err(self.not_enabled(vf)),
            Some(HEADER) if header != [0xff; HEADER] => Ok(()),
            Some(_) => Err(VirtualizationError::Refused {
                path: self.directory.path(config),
                source: Errno::IO.into(),
                reason: Some(format!("VF {vf} does not answer")),
            }),
        }
    }

    /// First VF Offset and VF Stride.
    pub(super) fn routing(
        &self,
        registers: Option<&SriovRegisters>,
    ) -> Result<Option<VfRouting>, VirtualizationError> {
        if let Some(registers) = registers {
            return Ok(Some(registers.routing));
        }
        let offset = self.directory.number("sriov_offset")?;
        let stride = self.directory.number("sriov_stride")?;
        Ok(offset
            .zip(stride)
            .map(|(first_vf_offset, vf_stride)| VfRouting {
                first_vf_offset,
                vf_stride,
            }))
    }

    fn calculated(
        &self,
        registers: Option<&SriovRegisters>,
        vf: u16,
    ) -> Result<Option<RoutingId>, VirtualizationError> {
        let routing = self.routing(registers)?;
        Ok(routing.and_then(|routing| vf_routing_id(routing, self.address.routing_id, vf)))
    }

    /// Secondary and subordinate bus number of the port above; `None` on a root bus.
    fn port_buses(&self) -> Option<(u8, u8)> {
        let mut header = [0; HEADER];
        let read = self.directory.bytes("../config", 0, &mut header);
        let bridge = matches!(read, Ok(Some(HEADER)))
            && header[HEADER_TYPE] & HEADER_LAYOUT == HEADER_BRIDGE;
        bridge.then_some((header[SECONDARY], header[SUBORDINATE]))
    }

    fn check_request(
        &self,
        registers: Option<&SriovRegisters>,
        request: EnableVirtualization,
    ) -> Result<(), VirtualizationError> {
        let num_vfs = request.num_vfs;
        let error = |total_vfs| VirtualizationError::NumVfs { num_vfs, total_vfs };
        if request.enable {
            if num_vfs == 0 {
                let (TotalVfs::Exactly(total) | TotalVfs::AtLeast(total)) =
                    self.total_vfs(registers)?;
                return Err(error(total));
            }
            self.check_total(registers, num_vfs.into(), error)?;
        } else if num_vfs != 0 {
            return Err(VirtualizationError::NumVfsNotZero { num_vfs });
        }
        if request.migration_interrupt && !request.vf_migration {
            return Err(VirtualizationError::MigrationInterrupt);
        }
        if request.vf_migration {
            self.check_migration(registers)?;
        }
        Ok(())
    }

    fn check_migration(
        &self,
        registers: Option<&SriovRegisters>,
    ) -> Result<(), VirtualizationError> {
        let (Capability::At { multi_root, .. }, Some(registers)) = (self.capability, registers)
        else {
            return Err(hidden(self.directory.path("config")));
        };
        let capable = SriovCapabilities::VF_MIGRATION_CAPABLE;
        if multi_root && registers.capability_bits().contains(capable) {
            Ok(())
        } else {
            Err(VirtualizationError::Migration)
        }
    }

    /// What can be told for a refusal. What cannot be read then is left out: the refusal counts.
    fn circumstances(&self, asked: u16) -> Circumstances {
        let registers = self.registers().ok().flatten();
        let last = asked
            .checked_sub(1)
            .and_then(|last| self.calculated(registers.as_ref(), last).ok().flatten());
        Circumstances {
            asked,
            offered: self.directory.number("sriov_totalvfs").ok().flatten(),
            enabled: self.directory.number(NUM_VFS).ok().flatten(),
            driver: self.driver().ok().flatten(),
            last_bus: last
                .zip(self.port_buses())
                .map(|(id, (_, subordinate))| (id.bus(), subordinate)),
        }
    }

    /// Has Linux enable or disable VFs, and sees to it that it did what was asked.
    fn write_num_vfs(&self, num_vfs: u16) -> Result<(), VirtualizationError> {
        let path = || self.directory.path(NUM_VFS);
        match self.directory.write(NUM_VFS, &format!("{num_vfs}\n")) {
            Ok(()) => {}
            Err(WriteError::Open(error)) if is_absent(&error) => {
                self.check_alive()?;
                return Err(VirtualizationError::Refused {
                    path: path(),
                    source: error,
                    reason: Some("Linux offers no SR-IOV for this function".to_owned()),
                });
            }
            Err(WriteError::Open(error)) => return Err(failed(path(), error)),
            Err(WriteError::Write(error)) => {
                self.check_alive()?;
                return Err(refused(path(), error, &self.circumstances(num_vfs)));
            }
        }
        if self.enabled_vfs()? == num_vfs {
            return Ok(());
        }
        self.check_alive()?;
        let error = disregarded(path(), &self.circumstances(num_vfs));
        if num_vfs != 0
            && let Err(WriteError::Open(source) | WriteError::Write(source)) =
                self.directory.write(NUM_VFS, "0\n")
        {
            tracing::warn!(pf = %self.address, %source, "VFs that were not asked for stay enabled");
        }
        Err(error)
    }
}

impl PciVirtualization for SysfsPf {
    /// As the trait has it. What the device shows is made to follow the SR-IOV rules: ids read ffff, BARs 0.
    fn virtual_function_data(
        &self,
        vf: u16,
        offset: u32,
        data: &mut [u8],
    ) -> Result<usize, VirtualizationError> {
        let (start, length) = self.check_access(vf, offset, data.len())?;
        let config = format!("virtfn{vf}/config");
        self.check_vf_alive(vf, &config)?;
        let data = &mut data[..length];
        let read = self.directory.bytes(&config, start.into(), data)?;
        let read = read.ok_or_else(|| self.not_enabled(vf))?;
        if read < length {
            return Err(hidden(self.directory.path(&config)));
        }
        vf_rules::apply(start, data);
        Ok(length)
    }

    fn set_virtual_function_data(
        &self,
        vf: u16,
        offset: u32,
        data: &[u8],
    ) -> Result<usize, VirtualizationError> {
        let (start, length) = self.check_access(vf, offset, data.len())?;
        let config = format!("virtfn{vf}/config");
        self.check_vf_alive(vf, &config)?;
        let write = || {
            let file = self.directory.file(&config, OFlags::WRONLY)?;
            file.write_all_at(&data[..length], start.into())
        };
        match write() {
            Ok(()) => Ok(length),
            Err(error) if is_absent(&error) => Err(self.not_enabled(vf)),
            Err(error) => Err(failed(self.directory.path(&config), error)),
        }
    }

    /// As the trait has it. A VF that is enabled is where Linux says it is; without one, where the capability's offset and
    /// stride put it, or [`VirtualizationError::NotEnabled`] if the device leaves them open until VFs are enabled.
    fn location(&self, vf: u16) -> Result<Location, VirtualizationError> {
        self.check_alive()?;
        let registers = self.registers()?;
        self.check_vf(registers.as_ref(), vf)?;
        let calculated = self.calculated(registers.as_ref(), vf)?;
        let Some(found) = self.directory.address(&format!("virtfn{vf}"))? else {
            let routing_id = calculated.ok_or_else(|| self.not_enabled(vf))?;
            return Ok(Location {
                segment: self.address.segment,
                routing_id,
            });
        };
        if calculated != Some(found.routing_id) {
            tracing::warn!(pf = %self.address, vf, %found, ?calculated, "a VF is not where offset and stride put it");
        }
        Ok(Location {
            segment: found.segment,
            routing_id: found.routing_id,
        })
    }

    fn captured_buses(&self) -> u8 {
        if self
            .check_alive()
            .and_then(|()| self.check_capable())
            .is_err()
        {
            return 0;
        }
        self.port_buses().map_or(0, |(secondary, subordinate)| {
            subordinate.saturating_sub(secondary)
        })
    }

    /// As the trait has it. Linux has no VF migration: what a device could do of it is
    /// [`VirtualizationError::Refused`]. A driver that enables fewer VFs than asked is told to disable them again.
    fn enable_virtualization(
        &self,
        request: EnableVirtualization,
    ) -> Result<(), VirtualizationError> {
        self.check_alive()?;
        self.check_capable()?;
        let registers = self.registers()?;
        self.check_request(registers.as_ref(), request)?;
        let num_vfs = self.enabled_vfs()?;
        let enabled = registers.map_or(num_vfs != 0, |registers| registers.vf_enable());
        if request.enable && enabled {
            let num_vfs = registers.map_or(num_vfs, |registers| registers.num_vfs);
            return Err(VirtualizationError::AlreadyEnabled { num_vfs });
        }
        if !request.enable && !enabled {
            return Err(VirtualizationError::AlreadyDisabled);
        }
        if request.vf_migration {
            return Err(VirtualizationError::Refused {
                path: self.directory.path(NUM_VFS),
                source: io::ErrorKind::Unsupported.into(),
                reason: Some("Linux has no VF migration".to_owned()),
            });
        }
        self.write_num_vfs(request.num_vfs)
    }

    fn probed_bars(&self) -> Result<[u32; 6], VirtualizationError> {
        self.check_alive()?;
        self.check_capable()?;
        self.known_probed_bars()
    }
}
