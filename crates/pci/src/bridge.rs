//! The type 1 header of bridges: its registers, what writes to them ask for and what they say. What
//! it shares with type 0 is in `builder`; ports' PCI Express registers are in `capability::express`.

use std::ops::RangeInclusive;

use crate::config_space::ConfigSpace;
use crate::effects::Effects;
use crate::registers::{Field, Registers, halves};
use crate::spec::bridge::{self, BridgeControl, SecondaryStatus};
use crate::spec::header;

/// A bridge's bus numbers and windows as software has set them (PCI Express Base Specification
/// 7.5.1.3). Whether the windows are open is Memory Space in the
/// [`command`](ConfigSpace::command) register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BridgeView {
    /// The bus that software says the bridge is on. Nothing is routed by it.
    pub primary: u8,
    /// The bus right below the bridge; 0 until software numbers it.
    pub secondary: u8,
    /// The highest bus that is reached through the bridge; below `secondary` if software set it so,
    /// and then none is.
    pub subordinate: u8,
    /// Addresses below 4 GiB that are passed down, whole MiB; `None` if the base is above the limit.
    pub memory: Option<RangeInclusive<u64>>,
    /// Addresses of 64 bits that are passed down too, whole MiB; `None` if the base is above the
    /// limit.
    pub prefetchable: Option<RangeInclusive<u64>>,
    /// Secondary Bus Reset is set: everything below is in reset.
    pub secondary_bus_reset: bool,
}

impl ConfigSpace {
    /// The bridge; `None` in a type 0 function.
    #[must_use]
    pub fn bridge(&self) -> Option<BridgeView> {
        self.is_bridge.then(|| read(&self.registers))
    }

    /// The bridge's secondary side found something to report: sets bits of the secondary status
    /// register. Does nothing in a type 0 function.
    pub fn raise_secondary_status(&mut self, status: SecondaryStatus) {
        if self.is_bridge {
            let bits = status.intersection(SecondaryStatus::WRITE_ONE_TO_CLEAR);
            let bits = u32::from(bits.bits()) << 16;
            self.registers.store(bridge::SECONDARY_STATUS, bits, bits);
        }
    }
}

/// Defines what of the header is not as in type 0, but for the BARs.
///
/// After a reset, which leaves them undefined, both windows are closed.
pub(crate) fn lay_out(registers: &mut Registers) {
    let byte = Field::read_only(0).writable(0xff);
    for bus in [
        bridge::PRIMARY_BUS,
        bridge::SECONDARY_BUS,
        bridge::SUBORDINATE_BUS,
    ] {
        registers.define(bus, 1, byte);
    }
    let status = SecondaryStatus::WRITE_ONE_TO_CLEAR.bits().into();
    registers.define(
        bridge::SECONDARY_STATUS,
        2,
        Field::read_only(0).write_one_to_clear(status),
    );
    let mask = bridge::MEMORY_MASK;
    let wide = bridge::PREFETCHABLE_64;
    for (offset, reset) in [
        (bridge::MEMORY_BASE, mask),
        (bridge::MEMORY_LIMIT, 0),
        (bridge::PREFETCHABLE_BASE, mask | wide),
        (bridge::PREFETCHABLE_LIMIT, wide),
    ] {
        let field = Field::read_only(reset.into()).writable(mask.into());
        registers.define(offset, 2, field);
    }
    for upper in [
        bridge::PREFETCHABLE_BASE_UPPER,
        bridge::PREFETCHABLE_LIMIT_UPPER,
    ] {
        registers.define(upper, 4, Field::read_only(0).writable(u32::MAX));
    }
    let control = BridgeControl::WRITABLE.bits().into();
    registers.define(
        bridge::BRIDGE_CONTROL,
        2,
        Field::read_only(0).writable(control),
    );
}

/// What a write to a word of the header, beyond the BARs, asks the owner to act on.
pub(crate) fn header_effects(offset: u16, before: u32, after: u32) -> Effects {
    const BUS_NUMBERS: u32 = 0x00ff_ffff;
    const RESET: u32 = (BridgeControl::SECONDARY_BUS_RESET.bits() as u32) << 16;
    let changed = before ^ after;
    match offset {
        bridge::PRIMARY_BUS if changed & BUS_NUMBERS != 0 => Effects::BUS_NUMBERS,
        bridge::MEMORY_BASE..bridge::IO_BASE_UPPER if changed != 0 => Effects::WINDOWS,
        header::INTERRUPT_LINE if changed & after & RESET != 0 => Effects::SECONDARY_BUS_RESET,
        _ => Effects::empty(),
    }
}

/// The bridge control register.
pub(crate) fn control(registers: &Registers) -> BridgeControl {
    let [_, control] = halves(registers.load(bridge::BRIDGE_CONTROL));
    BridgeControl::from_bits_retain(control)
}

fn read(registers: &Registers) -> BridgeView {
    let [primary, secondary, subordinate, _] = registers.load(bridge::PRIMARY_BUS).to_le_bytes();
    let upper = |offset| u64::from(registers.load(offset)) << 32;
    BridgeView {
        primary,
        secondary,
        subordinate,
        memory: window(registers.load(bridge::MEMORY_BASE), 0, 0),
        prefetchable: window(
            registers.load(bridge::PREFETCHABLE_BASE),
            upper(bridge::PREFETCHABLE_BASE_UPPER),
            upper(bridge::PREFETCHABLE_LIMIT_UPPER),
        ),
        secondary_bus_reset: control(registers).contains(BridgeControl::SECONDARY_BUS_RESET),
    }
}

/// The window of which a word holds base and limit, with their upper halves.
fn window(word: u32, base_upper: u64, limit_upper: u64) -> Option<RangeInclusive<u64>> {
    let address = |half: u16| u64::from(half & bridge::MEMORY_MASK) << 16;
    let [base, limit] = halves(word);
    let base = base_upper | address(base);
    let limit = limit_upper | address(limit) | (bridge::MEMORY_GRANULE - 1);
    (base <= limit).then_some(base..=limit)
}
