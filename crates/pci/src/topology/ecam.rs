//! The enhanced configuration access mechanism: config space as a memory window.

use crate::routing_id::RoutingId;
use crate::spec::CONFIG_SPACE_SIZE;

/// Bytes of a bus in the window: 256 functions of 4 KiB.
const BUS_SIZE: u64 = 256 * CONFIG_SPACE_SIZE as u64;

/// A memory window onto the config spaces of all functions of a range of buses, 1 MiB for each bus
/// (PCI Express Base Specification 7.2.2).
///
/// ```
/// use hdv_pci::topology::Ecam;
/// use hdv_pci::RoutingId;
///
/// let ecam = Ecam::new(0x80, 4)?;
/// assert_eq!(ecam.size(), 4 << 20);
/// let id = RoutingId::new(0x81, 2, 3)?;
/// assert_eq!(ecam.offset(id, 0x10), Some(0x11_3010));
/// assert_eq!(ecam.decode(0x11_3010), Some((id, 0x10)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ecam {
    first_bus: u8,
    bus_count: u16,
}

/// Buses that no window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an ECAM window of {bus_count} buses from {first_bus:#04x} on: it needs one at least, and the last bus is 0xff"
)]
pub struct EcamError {
    /// The first bus.
    pub first_bus: u8,
    /// Number of buses.
    pub bus_count: u16,
}

impl Ecam {
    /// A window onto `bus_count` buses, 1 to 256, from `first_bus` on.
    ///
    /// # Errors
    /// No bus, or buses above 255.
    pub const fn new(first_bus: u8, bus_count: u16) -> Result<Self, EcamError> {
        if bus_count == 0 || bus_count > 256 - first_bus as u16 {
            return Err(EcamError {
                first_bus,
                bus_count,
            });
        }
        Ok(Self {
            first_bus,
            bus_count,
        })
    }

    /// The bus at offset 0.
    #[must_use]
    pub const fn first_bus(self) -> u8 {
        self.first_bus
    }

    /// Number of buses, 1 to 256.
    #[must_use]
    pub const fn bus_count(self) -> u16 {
        self.bus_count
    }

    /// Bytes of the window.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.bus_count as u64 * BUS_SIZE
    }

    /// The function and the offset in its config space, in bytes, that `offset` in the window is;
    /// `None` beyond its end. An access that goes on beyond the 4 KiB goes on in another function.
    #[must_use]
    pub fn decode(self, offset: u64) -> Option<(RoutingId, u16)> {
        if offset >= self.size() {
            return None;
        }
        let function = u16::try_from(offset / u64::from(CONFIG_SPACE_SIZE)).ok()?;
        let register = u16::try_from(offset % u64::from(CONFIG_SPACE_SIZE)).ok()?;
        let id = function.checked_add(RoutingId::with_ari(self.first_bus, 0).get())?;
        Some((RoutingId::from(id), register))
    }

    /// Where in the window a register is; `None` if that bus or register is not in it.
    #[must_use]
    pub fn offset(self, id: RoutingId, register: u16) -> Option<u64> {
        let first = RoutingId::with_ari(self.first_bus, 0).get();
        let function = u64::from(id.get().checked_sub(first)?);
        let offset = function * u64::from(CONFIG_SPACE_SIZE) + u64::from(register);
        (register < CONFIG_SPACE_SIZE && offset < self.size()).then_some(offset)
    }
}
