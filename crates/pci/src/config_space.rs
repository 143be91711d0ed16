//! A function's config space as software on the bus sees it: reads, writes, resets and what the
//! registers say. Building one is in `builder`.

use std::ops::Range;

use crate::bar::{Bar, Bars};
use crate::bar_index::{BAR_COUNT, BarIndex};
use crate::bridge;
use crate::capability::{Change, MsiView, MsixView, Window, msi, power};
use crate::effects::Effects;
use crate::identity::{ClassCode, Identity};
use crate::link_state::LinkState;
use crate::placed::{AnyCapability, Placed};
use crate::places::Places;
use crate::registers::{Registers, Reset};
use crate::spec::express::{DEVICE_CONTROL, DeviceStatus};
use crate::spec::header::{self, Command, Status};
use crate::spec::power::{CONTROL_STATUS, PowerState};
use crate::spec::{self, CONFIG_SPACE_SIZE};

/// The 4 KiB of config space of a function (PCI Express Base Specification 7.2, 7.5.1).
///
/// Reads, writes and resets never allocate.
#[derive(Debug)]
pub struct ConfigSpace {
    pub(crate) registers: Registers,
    pub(crate) bars: Bars,
    pub(crate) identity: Identity,
    /// The header is of type 1.
    pub(crate) is_bridge: bool,
    pub(crate) capabilities: Vec<Placed>,
    pub(crate) places: Places,
    /// What a port's registers do not say of the link below it.
    pub(crate) link: LinkState,
    /// Where plain device registers are.
    pub(crate) device_registers: Vec<Range<usize>>,
}

impl ConfigSpace {
    /// Fills `data` with the bytes from `offset` on. Any length; bytes from 4096 on are all ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        self.registers.read(offset, data);
    }

    /// Software writes `data` at `offset`. Any length; split into aligned 32-bit words, in
    /// order. Bytes from 4096 on are dropped.
    ///
    /// The effects are for the owner to act on. Nothing is reset yet when
    /// [`Effects::FUNCTION_LEVEL_RESET`] is among them.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> Effects {
        self.write_bits(offset, data, |_| u32::MAX)
    }

    /// As [`write`](Self::write), but only the bits that `mask` has ones for, by the offset of the
    /// aligned word.
    pub(crate) fn write_bits(
        &mut self,
        offset: u16,
        data: &[u8],
        mask: impl Fn(u16) -> u32,
    ) -> Effects {
        let mut effects = Effects::empty();
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() && at < CONFIG_SPACE_SIZE {
            let lane = usize::from(at % 4);
            let length = rest.len().min(4 - lane);
            let (chunk, tail) = rest.split_at(length);
            let (mut bytes, mut enable) = ([0; 4], [0; 4]);
            bytes[lane..lane + length].copy_from_slice(chunk);
            enable[lane..lane + length].fill(0xff);
            let word = at & !3;
            let enable = u32::from_le_bytes(enable) & mask(word);
            effects |= self.write_word(word, enable, u32::from_le_bytes(bytes));
            at = word + 4;
            rest = tail;
        }
        effects
    }

    /// Software writes the bits that `enable` has ones for, in the aligned word at `offset`.
    pub(crate) fn write_word(&mut self, offset: u16, enable: u32, data: u32) -> Effects {
        let effects = self.write_register(offset, enable, data);
        effects | self.settle_link()
    }

    fn write_register(&mut self, offset: u16, enable: u32, data: u32) -> Effects {
        let (before, after) = self.registers.write(offset, enable, data);
        if offset < header::END {
            return self.header_effects(offset, before, after);
        }
        let owner = self
            .capabilities
            .iter_mut()
            .find(|placed| (placed.offset..placed.offset + placed.length).contains(&offset));
        match owner {
            Some(placed) => {
                let mut window = Window::new(
                    &mut self.registers,
                    &mut self.bars,
                    placed.offset,
                    placed.length,
                );
                let change = Change {
                    offset: offset - placed.offset,
                    before,
                    after,
                    enable,
                };
                placed
                    .capability
                    .registers_mut()
                    .written(&mut window, change)
            }
            None if before != after => Effects::REGISTERS,
            None => Effects::empty(),
        }
    }

    /// A conventional reset: every register gets its reset value but what is sticky (RWS, RW1CS, ROS); resizable
    /// BARs get the size they were declared with (6.6.1).
    pub fn reset(&mut self) {
        self.bars.reset(&mut self.registers);
        self.registers.reset(Reset::Conventional);
        self.reset_link();
    }

    /// A function level reset: as [`reset`](Self::reset), but the settings that the link needs
    /// to go on working, and Max Payload Size, survive too (6.6.2).
    pub fn function_level_reset(&mut self) {
        self.bars.reset(&mut self.registers);
        self.registers.reset(Reset::FunctionLevel);
        self.reset_link();
    }

    /// The function is powered on: as [`reset`](Self::reset), and sticky registers get their reset
    /// values too (7.4).
    pub fn power_on_reset(&mut self) {
        self.bars.reset(&mut self.registers);
        self.registers.reset(Reset::PowerOn);
        self.reset_link();
    }

    /// The function found something to report: sets write-one-to-clear bits of the status
    /// register. Others are ignored.
    pub fn raise_status(&mut self, status: Status) {
        let bits = u32::from(status.intersection(Status::WRITE_ONE_TO_CLEAR).bits()) << 16;
        self.registers.store(header::COMMAND, bits, bits);
    }

    /// The function found an error: sets write-one-to-clear bits of the PCI Express device
    /// status register. Others are ignored, and all are without a PCI Express capability.
    pub fn raise_device_status(&mut self, status: DeviceStatus) {
        if let Some(base) = self.places.express {
            let bits = status.intersection(DeviceStatus::WRITE_ONE_TO_CLEAR).bits();
            let bits = u32::from(bits) << 16;
            self.registers.store(base + DEVICE_CONTROL, bits, bits);
        }
    }

    /// The device changes plain registers of its own, whatever software can write. Reset brings
    /// back the declared bytes.
    ///
    /// Returns `false`, and changes nothing, unless all bytes are plain device registers.
    pub fn set_registers(&mut self, offset: u16, data: &[u8]) -> bool {
        let Some(end) = usize::from(offset).checked_add(data.len()) else {
            return false;
        };
        let places = usize::from(offset)..end;
        let device = |at: usize| {
            self.device_registers
                .iter()
                .any(|range| range.contains(&at))
        };
        if !places.clone().all(device) {
            return false;
        }
        for (at, &byte) in (offset..).zip(data) {
            let lane = 8 * u32::from(at % 4);
            self.registers
                .store(at, 0xff << lane, u32::from(byte) << lane);
        }
        true
    }

    /// Says in the header type whether the function's device has functions beyond function 0. It
    /// does not until it is said so; resets do not change it.
    pub fn set_multi_function(&mut self, multi_function: bool) {
        let bit = u32::from(header::MULTI_FUNCTION) << 16;
        let value = if multi_function { bit } else { 0 };
        self.registers.store(header::HEADER_TYPE, bit, value);
    }

    /// What the function is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The function's class.
    #[must_use]
    pub fn class(&self) -> ClassCode {
        self.identity.class
    }

    /// The command register.
    #[must_use]
    pub fn command(&self) -> Command {
        let [low, high, ..] = self.registers.load(header::COMMAND).to_le_bytes();
        Command::from_bits_retain(u16::from_le_bytes([low, high]))
    }

    /// The status register.
    #[must_use]
    pub fn status(&self) -> Status {
        let [.., low, high] = self.registers.load(header::COMMAND).to_le_bytes();
        Status::from_bits_retain(u16::from_le_bytes([low, high]))
    }

    /// A BAR with the size it has now; `None` if it is not declared, so for the upper half
    /// of a 64-bit one.
    #[must_use]
    pub fn bar(&self, index: BarIndex) -> Option<Bar> {
        self.bars.get(index)
    }

    /// The address that software gave a BAR, whether or not Memory Space is enabled. While
    /// software sizes the BAR this is no address it means.
    #[must_use]
    pub fn bar_address(&self, index: BarIndex) -> Option<u64> {
        self.bars.address(&self.registers, index)
    }

    /// What each BAR register reads after all ones were written to it.
    #[must_use]
    pub fn probed_bars(&self) -> [u32; BAR_COUNT] {
        BarIndex::ALL.map(|index| {
            let at = index.offset();
            if !self.bar_registers().contains(&at) {
                return 0;
            }
            self.registers.load(at) | self.registers.write_mask(at)
        })
    }

    /// The MSI capability; `None` without one.
    #[must_use]
    pub fn msi(&self) -> Option<MsiView> {
        Some(MsiView::read(&self.registers, self.places.msi?))
    }

    /// Sets all MSI pending bits: bit n is vector n; bits beyond the declared vectors are
    /// ignored. Does nothing without an MSI capability or when that has no mask bits.
    pub fn set_msi_pending(&mut self, bits: u32) {
        if let Some(base) = self.places.msi {
            msi::set_pending(&mut self.registers, base, bits);
        }
    }

    /// The MSI-X capability; `None` without one.
    #[must_use]
    pub fn msix(&self) -> Option<MsixView> {
        MsixView::read(&self.registers, self.places.msix?)
    }

    /// The power state; D0 without a power management capability.
    #[must_use]
    pub fn power_state(&self) -> PowerState {
        self.places.power.map_or(PowerState::D0, |base| {
            power::state(self.registers.load(base + CONTROL_STATUS))
        })
    }

    /// Offset in config space of the first capability with that identifier, in the order in which
    /// they were declared.
    #[must_use]
    pub fn capability(&self, id: u8) -> Option<u16> {
        self.capabilities
            .iter()
            .find_map(|placed| match &placed.capability {
                AnyCapability::Compatible(capability) if capability.id() == id => {
                    Some(placed.offset)
                }
                _ => None,
            })
    }

    /// Offset in config space of the extended capability with that identifier.
    #[must_use]
    pub fn extended_capability(&self, id: u16) -> Option<u16> {
        self.capabilities
            .iter()
            .find_map(|placed| match &placed.capability {
                AnyCapability::Extended(capability) if capability.id() == id => Some(placed.offset),
                _ => None,
            })
    }

    /// Where the BARs are.
    fn bar_registers(&self) -> Range<u16> {
        let count = if self.is_bridge {
            spec::bridge::BAR_COUNT
        } else {
            header::BAR_COUNT
        };
        header::BAR0..header::BAR0 + 4 * u16::from(count)
    }

    /// What a write to a word of the header asks the owner to act on.
    fn header_effects(&self, offset: u16, before: u32, after: u32) -> Effects {
        let changed = before ^ after;
        if offset == header::COMMAND && changed & 0xffff != 0 {
            Effects::COMMAND
        } else if self.bar_registers().contains(&offset) && changed != 0 {
            Effects::BAR
        } else if self.is_bridge {
            bridge::header_effects(offset, before, after)
        } else {
            Effects::empty()
        }
    }
}
