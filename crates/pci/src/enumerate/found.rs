//! What an enumeration finds.

use std::ops::RangeInclusive;

use crate::bar::Bar;
use crate::bar_index::BarIndex;
use crate::identity::ClassCode;
use crate::routing_id::RoutingId;
use crate::vf_routing::VfRouting;

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enumeration {
    /// All functions, ports among them, each bus by device and function number; every port comes before
    /// what is below it.
    pub functions: Vec<FoundFunction>,
}

impl Enumeration {
    /// The function with that routing id.
    #[must_use]
    pub fn function(&self, id: RoutingId) -> Option<&FoundFunction> {
        self.functions.iter().find(|function| function.id == id)
    }
}

/// A function of a device, or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    /// Its routing id.
    pub id: RoutingId,
    /// The port above, by its index in [`Enumeration::functions`]; `None` on the root bus.
    pub above: Option<usize>,
    /// Vendor id.
    pub vendor_id: u16,
    /// Device id.
    pub device_id: u16,
    /// Class.
    pub class: ClassCode,
    /// Its memory BARs.
    pub bars: Vec<FoundBar>,
    /// Its VFs, if it is a PF.
    pub sriov: Option<FoundSriov>,
    /// What is below it, if it is a port.
    pub bridge: Option<FoundBridge>,
}

/// A BAR, or a VF BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundBar {
    /// Which.
    pub index: BarIndex,
    /// Its kind and size; of one VF if it is a VF BAR.
    pub bar: Bar,
    /// The address it was given.
    pub address: u64,
}

/// The SR-IOV capability of a PF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSriov {
    /// Offset in config space, in bytes.
    pub offset: u16,
    /// Most VFs there can be.
    pub total_vfs: u16,
    /// Where they are.
    pub routing: VfRouting,
    /// The VF BARs; each has the addresses for all VFs.
    pub bars: Vec<FoundBar>,
}

/// What a port passes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBridge {
    /// The bus right below.
    pub secondary: u8,
    /// The highest bus below.
    pub subordinate: u8,
    /// Devices can be plugged in while software runs.
    pub hot_plug: bool,
    /// The prefetchable window has 64 bits.
    pub wide: bool,
    /// The memory window.
    pub memory: Option<RangeInclusive<u64>>,
    /// The prefetchable window.
    pub prefetchable: Option<RangeInclusive<u64>>,
}
