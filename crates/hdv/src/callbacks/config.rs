//! Config space of a device behind callbacks: which dwords are the host's, which the device's, and what
//! the device is told of a write.

use hdv_pci::spec::CONFIG_SPACE_SIZE;
use hdv_pci::spec::header::{BAR_COUNT, BAR0, CAPABILITIES_POINTER, COMMAND, END, Status};
use hdv_pci::spec::msix::MsixControl;
use hdv_pci::spec::power::PowerControl;
use hdv_pci::{ConfigSpace, Effects, VfConfigRules};

use super::dword::{self, Write, half};
use super::function::CallbackFunction;
use super::msi::{self, MsiRegisters};
use super::msix;
use crate::function::ConfigWrite;
use crate::interrupts::InterruptKind;
use crate::slot::read_nobody;

/// Where the status register is in the dword of the command register.
const STATUS_SHIFT: u32 = 16;

impl CallbackFunction {
    /// Reads config space; from 4096 on it is all ones.
    pub(super) fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        if self.refused {
            return read_nobody(offset, data);
        }
        self.read_dwords(offset, data, Self::shown);
    }

    /// Reads config space as that of a VF; from 4096 on it is all ones.
    pub(super) fn read_config_as_vf(&mut self, offset: u16, data: &mut [u8]) {
        if self.refused {
            return data.fill(0xff);
        }
        let rules = self.vf_rules();
        self.read_dwords(offset, data, |function, offset| {
            rules.shown(offset, function.shown(offset))
        });
    }

    fn read_dwords(&mut self, offset: u16, data: &mut [u8], shown: impl Fn(&mut Self, u16) -> u32) {
        data.fill(0xff);
        dword::split(offset, data.len(), |offset, lane, range| {
            if offset < CONFIG_SPACE_SIZE {
                let bytes = shown(self, offset).to_le_bytes();
                let part = &mut data[range];
                part.copy_from_slice(&bytes[lane..lane + part.len()]);
            }
        });
    }

    /// Writes config space; from 4096 on writes are dropped.
    pub(super) fn write_config(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.write_dwords(offset, data, |_| u32::MAX)
    }

    /// Writes config space as that of a VF; from 4096 on writes are dropped.
    pub(super) fn write_config_as_vf(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        let rules = self.vf_rules();
        self.write_dwords(offset, data, |offset| rules.writable(offset))
    }

    /// Writes the bits that `writable` has ones for, by dword.
    fn write_dwords(
        &mut self,
        offset: u16,
        data: &[u8],
        writable: impl Fn(u16) -> u32,
    ) -> ConfigWrite {
        let mut done = ConfigWrite::Registers;
        dword::split(offset, data.len(), |offset, lane, range| {
            if self.refused || offset >= CONFIG_SPACE_SIZE {
                return;
            }
            let (mut value, mut enable) = ([0; 4], [0; 4]);
            let part = &data[range];
            value[lane..lane + part.len()].copy_from_slice(part);
            enable[lane..lane + part.len()].fill(0xff);
            let enable = u32::from_le_bytes(enable) & writable(offset);
            let write = Write {
                offset,
                value: u32::from_le_bytes(value) & enable,
                enable,
            };
            if enable != 0 && self.write_dword(write) == ConfigWrite::Reset {
                done = ConfigWrite::Reset;
            }
        });
        done
    }

    /// What a VF has of this config space. Unlike a VM's, accesses as a VF come before the first start too.
    fn vf_rules(&mut self) -> VfConfigRules {
        if self.header.is_some() {
            self.learn();
        }
        self.learned
            .as_ref()
            .map(|learned| learned.vf_rules)
            .unwrap_or_default()
    }

    /// What the device reads; all ones if it fails, 0 before its capabilities are known.
    fn device_reads(&mut self, offset: u16) -> u32 {
        match self.learned {
            Some(_) => self.device.read_config(offset).unwrap_or(u32::MAX),
            None => 0,
        }
    }

    /// What the guest reads.
    fn shown(&mut self, offset: u16) -> u32 {
        if offset >= END {
            let read = self.device_reads(offset);
            let Some(learned) = &self.learned else {
                return read;
            };
            let pending = learned.msi.as_ref().and_then(MsiRegisters::pending_offset);
            let held_back = if pending == Some(offset) {
                // At most 32 vectors, so the upper half is empty.
                let bits = self.interrupts.pending(InterruptKind::Msi, 0);
                u32::try_from(bits).unwrap_or(u32::MAX)
            } else {
                0
            };
            return learned.links.show(offset, read) | held_back;
        }
        let header = self.header_reads(offset);
        let pointer = self
            .learned
            .as_ref()
            .map_or(0, |learned| learned.links.pointer());
        match offset {
            COMMAND => {
                let list = u32::from(Status::CAPABILITIES_LIST.bits()) << STATUS_SHIFT;
                let status = self.device_reads(COMMAND) >> STATUS_SHIFT << STATUS_SHIFT & !list;
                let list = if pointer == 0 { 0 } else { list };
                u32::from(half(header, 0)) | status | list
            }
            CAPABILITIES_POINTER => pointer.into(),
            _ => header,
        }
    }

    /// What the host's header reads.
    fn header_reads(&self, offset: u16) -> u32 {
        let mut dword = [0; 4];
        if let Some(header) = &self.header {
            header.read(offset, &mut dword);
        }
        u32::from_le_bytes(dword)
    }

    fn write_dword(&mut self, write: Write) -> ConfigWrite {
        if write.offset < END {
            self.write_header(write);
        }
        let Some(value) = self.merged(write) else {
            return ConfigWrite::Registers;
        };
        self.device.write_config(write.offset, value);
        self.act_on(write)
    }

    /// Writes what is written to the host's header.
    fn write_header(&mut self, write: Write) {
        // Its status has no bits that a written one clears: those are the device's.
        let value = write.over(self.header_reads(write.offset)).to_le_bytes();
        let Some(header) = &mut self.header else {
            return;
        };
        let bytes = (write.offset..).zip(value).zip(write.enable.to_le_bytes());
        for ((at, value), enable) in bytes {
            if enable != 0 {
                // BARs and command have no effect here: the VMM routes accesses.
                let _: Effects = header.write(at, &[value]);
            }
        }
    }

    /// What the device is told of a write; `None` for nothing: it has never been started, or cannot
    /// say what it reads where the guest does not write.
    fn merged(&mut self, write: Write) -> Option<u32> {
        let learned = self.learned.as_ref()?;
        if write.enable == u32::MAX {
            return Some(write.value);
        }
        let keep = !learned.write_one.bits(write.offset);
        let old = if write.offset < END {
            self.shown(write.offset)
        } else {
            self.device.read_config(write.offset)?
        };
        Some(write.over(old & keep))
    }

    /// Acts on a write that the device has seen.
    fn act_on(&mut self, write: Write) -> ConfigWrite {
        let Some(learned) = &mut self.learned else {
            return ConfigWrite::Registers;
        };
        if learned.initiates_reset(write) {
            self.reset_registers(ConfigSpace::function_level_reset);
            self.reset_device();
            return ConfigWrite::Reset;
        }
        if learned.wakes_up(write) {
            let control = half(self.device_reads(write.offset), 0);
            let control = PowerControl::from_bits_retain(control);
            if control.contains(PowerControl::NO_SOFT_RESET) {
                return ConfigWrite::Registers;
            }
            self.reset_registers(ConfigSpace::reset);
            self.reset_device();
            return ConfigWrite::Reset;
        }
        if let Some(msix) = &learned.msix
            && msix.control_offset() == write.offset
            && write.enable >> 24 != 0
        {
            let control = MsixControl::from_bits_retain(half(write.value, 16));
            self.interrupts
                .mask_function(control.contains(MsixControl::FUNCTION_MASK));
        }
        if let Some(msi) = &mut learned.msi
            && msi.write(write)
        {
            self.follow_msi();
        }
        ConfigWrite::Registers
    }

    /// Lets interrupts follow the MSI capability.
    pub(super) fn follow_msi(&self) {
        let Some(msi) = self
            .learned
            .as_ref()
            .and_then(|learned| learned.msi.as_ref())
        else {
            return;
        };
        self.interrupts.set_msi_message(msi.message());
        for vector in 0..msi.vectors() {
            let masked = msi.mask() >> vector & 1 != 0;
            self.interrupts
                .mask_by_register(InterruptKind::Msi, vector, masked);
        }
    }

    /// Tells the device that its command register, BARs and enables of interrupts are as after a reset.
    pub(super) fn clear_enables(&mut self) {
        self.device.write_config(COMMAND, 0);
        for at in 0..u16::from(BAR_COUNT) {
            self.device.write_config(BAR0 + 4 * at, 0);
        }
        let Some(learned) = &self.learned else {
            return;
        };
        let controls = [
            learned
                .msi
                .as_ref()
                .map(|msi| (msi.control_offset(), msi::ENABLES)),
            learned
                .msix
                .as_ref()
                .map(|msix| (msix.control_offset(), msix::ENABLES)),
        ];
        for (offset, enables) in controls.into_iter().flatten() {
            let read = self.device.read_config(offset).unwrap_or(0);
            self.device.write_config(offset, read & !enables);
        }
    }
}
