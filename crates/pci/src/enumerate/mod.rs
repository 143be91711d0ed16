//! What firmware and operating systems do with a hierarchy before drivers start: number the buses, size
//! the BARs, place them and the windows of the ports, and switch everything on. For test benches,
//! and for VMMs whose guests come without firmware.
//!
//! It knows a hierarchy by config accesses only: a [`ConfigBus`] does them, by a
//! [`Topology`](crate::topology::Topology) or by a real ECAM window. What answers there may be
//! hostile: all loops are bounded. I/O space and expansion ROMs are left alone.

mod access;
mod found;
mod layout;
mod program;
mod scan;
mod size;

use std::ops::RangeInclusive;

use crate::routing_id::RoutingId;
use layout::Layout;
use scan::Scan;

pub use found::{Enumeration, FoundBar, FoundBridge, FoundFunction, FoundSriov};

/// Config accesses by routing id.
pub trait ConfigBus {
    /// Fills `data` with the bytes from `offset` on, all ones if nothing answers. An access is of 1, 2 or
    /// 4 bytes and aligned.
    fn read(&mut self, id: RoutingId, offset: u16, data: &mut [u8]);

    /// Writes `data` at `offset`; dropped if nothing answers. An access is of 1, 2 or 4 bytes and
    /// aligned.
    fn write(&mut self, id: RoutingId, offset: u16, data: &[u8]);
}

/// What there is to give out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Bus numbers; the first one is that of the root bus.
    pub buses: RangeInclusive<u8>,
    /// Addresses below 4 GiB.
    pub memory: RangeInclusive<u64>,
    /// Addresses for prefetchable 64-bit BARs; those go to `memory` too if it is `None`.
    pub prefetchable: Option<RangeInclusive<u64>>,
    /// What each slot that devices can be plugged into while software runs gets at least.
    pub hot_plug: HotPlugReserve,
}

/// What a slot gets that a device may be plugged into later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotPlugReserve {
    /// Bus numbers beyond those in use; all slots get none if there are too few for all of them.
    pub buses: u8,
    /// Bytes of memory window in all.
    pub memory: u64,
    /// Bytes of prefetchable window in all.
    pub prefetchable: u64,
}

impl HotPlugReserve {
    /// Nothing.
    pub const NONE: Self = Self {
        buses: 0,
        memory: 0,
        prefetchable: 0,
    };
}

/// As Linux: 8 buses, 2 MiB of each window.
impl Default for HotPlugReserve {
    fn default() -> Self {
        Self {
            buses: 8,
            memory: 2 << 20,
            prefetchable: 2 << 20,
        }
    }
}

/// A hierarchy that does not fit into what there is to give out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnumerateError {
    /// Addresses for 32-bit BARs are not all below 4 GiB.
    #[error(
        "addresses for memory windows end at {0:#x}, which 32-bit windows cannot reach; end them below 4 GiB"
    )]
    MemoryAbove4G(u64),
    /// Too few bus numbers.
    #[error(
        "{id} needs bus {needed:#x}, and the last one is {last:#04x}; give more buses or attach less"
    )]
    Buses {
        /// The port, or the PF whose VFs need the bus.
        id: RoutingId,
        /// The bus number it needs.
        needed: u16,
        /// The last one there is.
        last: u8,
    },
    /// VFs of a PF are beyond all routing ids.
    #[error("VFs of {pf} are beyond the last routing id, ff:1f.7; declare fewer VFs")]
    VfRouting {
        /// The PF.
        pf: RoutingId,
    },
    /// Too few addresses.
    #[error(
        "{window} addresses for all BARs need {needed:#x} bytes aligned to {alignment:#x}, which {available:#x?} does not hold; make the window larger"
    )]
    Window {
        /// Memory or prefetchable.
        window: &'static str,
        /// Bytes.
        needed: u128,
        /// Alignment of the first of them.
        alignment: u64,
        /// What there is.
        available: RangeInclusive<u64>,
    },
}

/// Numbers the buses, places all BARs and windows, and enables memory accesses and bus mastering
/// everywhere. VFs stay disabled, with room for all of them: [`enable_vfs`] brings them.
///
/// # Errors
/// Something does not fit. The hierarchy is left half done then, with memory accesses disabled.
pub fn enumerate<B: ConfigBus + ?Sized>(
    bus: &mut B,
    resources: &Resources,
) -> Result<Enumeration, EnumerateError> {
    if *resources.memory.end() > u32::MAX.into() {
        return Err(EnumerateError::MemoryAbove4G(*resources.memory.end()));
    }
    let spare = resources.hot_plug.buses;
    let scanned = match Scan::run(bus, &resources.buses, spare) {
        Err(EnumerateError::Buses { .. }) if spare > 0 => Scan::run(bus, &resources.buses, 0),
        result => result,
    };
    let mut functions = scanned?;
    for function in &mut functions {
        size::size(bus, function);
    }
    Layout::new(&mut functions, resources).place()?;
    for function in &functions {
        program::program(bus, function);
    }
    for function in &functions {
        program::enable(bus, function.id);
    }
    Ok(Enumeration { functions })
}

/// Enables the first `num_vfs` VFs of a PF that [`enumerate`] found, and their memory accesses, as a
/// driver does. Returns their routing ids; none, with nothing done, if it is no PF or has fewer.
pub fn enable_vfs<B: ConfigBus + ?Sized>(
    bus: &mut B,
    pf: &FoundFunction,
    num_vfs: u16,
) -> Vec<RoutingId> {
    program::enable_vfs(bus, pf, num_vfs)
}

/// Disables the VFs of a PF.
pub fn disable_vfs<B: ConfigBus + ?Sized>(bus: &mut B, pf: &FoundFunction) {
    program::disable_vfs(bus, pf);
}
