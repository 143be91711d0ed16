//! The port above a device: which buses lead to it and which of their functions are the device's.

use crate::routing_id::RoutingId;

/// A root port or downstream port of a switch, as far as routing ids go (PCI Express Base
/// Specification 7.5.1.3, 7.5.3.16). The device below it is device 0 on the secondary bus; the
/// other buses are captured for its VFs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    secondary: u8,
    subordinate: u8,
    ari_forwarding: bool,
}

/// Bus numbers that a port cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "subordinate bus {subordinate:#04x} is below secondary bus {secondary:#04x}; a port leads to its secondary bus at least"
)]
pub struct BusNumbersError {
    /// The secondary bus number.
    pub secondary: u8,
    /// The subordinate bus number.
    pub subordinate: u8,
}

impl Port {
    /// A port without ARI forwarding. `secondary` is the bus right below, `subordinate` the
    /// highest one that is reached through the port.
    ///
    /// # Errors
    /// A subordinate bus number below the secondary one.
    pub const fn new(secondary: u8, subordinate: u8) -> Result<Self, BusNumbersError> {
        if subordinate < secondary {
            return Err(BusNumbersError {
                secondary,
                subordinate,
            });
        }
        Ok(Self {
            secondary,
            subordinate,
            ari_forwarding: false,
        })
    }

    /// The port forwards requests to all 256 functions of the secondary bus, or to 8 of them (ARI
    /// Forwarding Enable).
    #[must_use]
    pub const fn ari_forwarding(self, enabled: bool) -> Self {
        Self {
            ari_forwarding: enabled,
            ..self
        }
    }

    /// Gives the port other bus numbers; on an error it keeps those it has.
    ///
    /// # Errors
    /// A subordinate bus number below the secondary one.
    pub fn renumber(&mut self, secondary: u8, subordinate: u8) -> Result<(), BusNumbersError> {
        *self = Self::new(secondary, subordinate)?.ari_forwarding(self.ari_forwarding);
        Ok(())
    }

    /// The bus right below the port.
    #[must_use]
    pub const fn secondary(self) -> u8 {
        self.secondary
    }

    /// The highest bus that is reached through the port.
    #[must_use]
    pub const fn subordinate(self) -> u8 {
        self.subordinate
    }

    /// All 256 functions of the secondary bus are reached.
    #[must_use]
    pub const fn forwards_ari(self) -> bool {
        self.ari_forwarding
    }

    /// Number of buses beyond the device's own, 0 to 255.
    #[must_use]
    pub const fn captured_buses(self) -> u8 {
        self.subordinate - self.secondary
    }

    /// Where a function of the device is: the same function number, on the secondary bus.
    #[must_use]
    pub const fn below(self, function: RoutingId) -> RoutingId {
        function.on_bus(self.secondary)
    }

    /// Whether requests for `id` reach the device: on its own bus 8 functions, those with the
    /// device number of `pf`, or all 256 if both the port and the device (`device_ari`) know ARI;
    /// on captured buses always all 256.
    #[must_use]
    pub const fn reaches(self, pf: RoutingId, device_ari: bool, id: RoutingId) -> bool {
        if id.bus() == self.secondary {
            return self.ari_forwarding && device_ari || id.device() == pf.device();
        }
        self.secondary < id.bus() && id.bus() <= self.subordinate
    }
}
