//! What a capability is to a config space: the [`Capability`] and [`ExtendedCapability`] traits
//! and what they are given. Each capability lives in a file of its own.

use std::fmt;

use crate::bar::{Bar, Bars};
use crate::bar_index::{BAR_COUNT, BarIndex};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::{Field, Registers};

mod acs;
pub(crate) mod aer;
mod ari;
mod bridge_subsystem;
mod express;
mod express_port;
pub(crate) mod msi;
mod msix;
pub(crate) mod power;
mod resizable_bar;
mod serial_number;
pub(crate) mod slot;
mod sriov;
mod sriov_view;
mod vendor;

pub use acs::AccessControlServices;
pub use aer::Aer;
pub use ari::Ari;
pub(crate) use bridge_subsystem::BridgeSubsystem;
pub use express::PciExpress;
pub use msi::{Msi, MsiView};
pub use msix::{BarOffset, Msix, MsixView};
pub use power::PowerManagement;
pub use resizable_bar::ResizableBar;
pub use serial_number::DeviceSerialNumber;
pub use slot::Slot;
pub use sriov::Sriov;
pub use sriov_view::{SriovView, VfBar};
pub use vendor::VendorSpecific;

/// The registers of a capability and what they do; its place is given by the config space.
///
/// What both kinds of capability share is here; [`Capability`] and [`ExtendedCapability`] add
/// the identifier.
pub trait CapabilityRegisters: fmt::Debug + Send + Sync {
    /// The name in errors.
    fn name(&self) -> &'static str;

    /// Bytes, the header included.
    fn length(&self) -> u16;

    /// Whether a function can have only one of them.
    fn unique(&self) -> bool {
        true
    }

    /// Checks the description against the function's BARs. Extended capabilities are asked before
    /// the others.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, bars: &mut BarPlan) -> Result<(), ConfigError>;

    /// Defines every register but the header, which is the config space's.
    fn lay_out(&self, window: &mut Window<'_>);

    /// Software wrote to an aligned 32-bit word of it; the window holds the new values. Must not
    /// allocate.
    fn written(&mut self, window: &mut Window<'_>, change: Change) -> Effects;
}

/// A capability in the first 256 bytes (PCI Express Base Specification 7.5.3.1, 7.7, 7.9.4).
pub trait Capability: CapabilityRegisters {
    /// The identifier in its header.
    fn id(&self) -> u8;
}

/// A capability from 0x100 up (PCI Express Base Specification 7.6.3).
pub trait ExtendedCapability: CapabilityRegisters {
    /// The identifier in its header.
    fn id(&self) -> u16;

    /// The version in its header, 1 to 15.
    fn version(&self) -> u8 {
        1
    }
}

/// The BARs that a function will have, as capabilities check themselves against them.
#[derive(Clone, Debug)]
pub struct BarPlan {
    bars: [Option<Bar>; BAR_COUNT],
    is_bridge: bool,
    smallest: [u64; BAR_COUNT],
}

impl BarPlan {
    pub(crate) fn new(bars: [Option<Bar>; BAR_COUNT], is_bridge: bool) -> Self {
        Self {
            bars,
            is_bridge,
            smallest: bars.map(|bar| bar.map_or(0, |bar| bar.size)),
        }
    }

    /// The function has a type 1 header.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.is_bridge
    }

    /// The BAR as declared.
    #[must_use]
    pub fn bar(&self, index: BarIndex) -> Option<Bar> {
        self.bars[index.get()]
    }

    /// The smallest size the BAR can take, in bytes; 0 if there is none.
    #[must_use]
    pub fn smallest(&self, index: BarIndex) -> u64 {
        self.smallest[index.get()]
    }

    /// The BAR can be made as small as `size` bytes.
    pub fn shrinks_to(&mut self, index: BarIndex, size: u64) {
        let smallest = &mut self.smallest[index.get()];
        *smallest = size.min(*smallest);
    }
}

/// An aligned 32-bit word that software wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its offset in the capability, a multiple of 4.
    pub offset: u16,
    /// Its value before.
    pub before: u32,
    /// Its value now.
    pub after: u32,
    /// Ones for the bits that were written, whether or not they changed.
    pub enable: u32,
}

impl Change {
    /// Whether any bit differs.
    #[must_use]
    pub const fn changed(self) -> bool {
        self.before != self.after
    }
}

/// A capability's own registers, by offset in the capability, and the function's BARs.
///
/// Its methods panic on an access outside the capability: that is a bug in the capability, never
/// the doing of a guest.
#[derive(Debug)]
pub struct Window<'a> {
    registers: &'a mut Registers,
    bars: &'a mut Bars,
    base: u16,
    length: u16,
}

impl<'a> Window<'a> {
    pub(crate) fn new(
        registers: &'a mut Registers,
        bars: &'a mut Bars,
        base: u16,
        length: u16,
    ) -> Self {
        Self {
            registers,
            bars,
            base,
            length,
        }
    }

    /// Offset of the capability in config space, in bytes.
    #[must_use]
    pub fn base(&self) -> u16 {
        self.base
    }

    fn place(&self, offset: u16, width: u16) -> u16 {
        let end = offset.checked_add(width);
        assert!(
            end.is_some_and(|end| end <= self.length),
            "register at {offset:#x} of a capability of {} bytes",
            self.length
        );
        self.base + offset
    }

    /// Defines an 8-bit register.
    pub fn define_u8(&mut self, offset: u16, field: Field) {
        self.registers.define(self.place(offset, 1), 1, field);
    }

    /// Defines a 16-bit register.
    pub fn define_u16(&mut self, offset: u16, field: Field) {
        self.registers.define(self.place(offset, 2), 2, field);
    }

    /// Defines a 32-bit register.
    pub fn define_u32(&mut self, offset: u16, field: Field) {
        self.registers.define(self.place(offset, 4), 4, field);
    }

    /// The value of the 32-bit register at `offset`, a multiple of 4.
    #[must_use]
    pub fn get_u32(&self, offset: u16) -> u32 {
        self.registers.load(self.place(offset & !3, 4))
    }

    /// Sets the bits of `mask` in the 32-bit register at `offset`, a multiple of 4, whatever
    /// software can write.
    pub fn set_u32(&mut self, offset: u16, mask: u32, value: u32) {
        let at = self.place(offset & !3, 4);
        self.registers.store(at, mask, value);
    }

    /// A BAR of the function.
    #[must_use]
    pub fn bar(&self, index: BarIndex) -> Option<Bar> {
        self.bars.get(index)
    }

    /// Gives a BAR another size in bytes, a power of two of at least 16, until the next reset.
    /// Its address becomes 0.
    pub fn resize_bar(&mut self, index: BarIndex, size: u64) {
        self.bars.resize(self.registers, index, size);
    }
}
