//! Where a PF is: segment, bus, device and function, and the port above.

use hdv::pci::{BusNumbersError, Port, RoutingId, RoutingIdError, VfRouting};

/// The place of a PF. Its bus is the port's secondary bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub(super) segment: u32,
    pub(super) port: Port,
    pub(super) pf: RoutingId,
}

/// A place that a PF cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// Device or function number.
    #[error(transparent)]
    RoutingId(#[from] RoutingIdError),
    /// Bus numbers of the port.
    #[error(transparent)]
    BusNumbers(#[from] BusNumbersError),
    /// VFs that requests would not reach.
    #[error(
        "{total_vfs} VFs do not fit: with First VF Offset {} and VF Stride {} buses {:#04x} to {:#04x} hold {capacity}; let \
         the port above capture more buses{}",
        routing.first_vf_offset, routing.vf_stride, port.secondary(), port.subordinate(),
        if port.forwards_ari() { " (a higher subordinate bus number)" } else { ", or forward ARI" }
    )]
    Capacity {
        /// The most VFs there shall be.
        total_vfs: u16,
        /// The most that are reached.
        capacity: u16,
        /// Where they would be.
        routing: VfRouting,
        /// The port above.
        port: Port,
    },
}

impl Placement {
    /// Device 0 to 31, function 0 to 7, on the secondary bus of `port`, in a segment (on Linux, a domain).
    ///
    /// # Errors
    /// Other numbers.
    pub fn new(segment: u32, port: Port, device: u8, function: u8) -> Result<Self, PlacementError> {
        let pf = RoutingId::new(port.secondary(), device, function)?;
        Ok(Self { segment, port, pf })
    }

    /// The same device and function below a port with other bus numbers.
    pub(super) fn renumbered(
        mut self,
        secondary: u8,
        subordinate: u8,
    ) -> Result<Self, PlacementError> {
        self.port.renumber(secondary, subordinate)?;
        self.pf = self.port.below(self.pf);
        Ok(self)
    }

    /// The PF's function number in its device, which is the whole bus with ARI.
    pub(super) fn function_number(self) -> u8 {
        if self.port.forwards_ari() {
            self.pf.ari_function()
        } else {
            self.pf.function()
        }
    }

    /// Requests reach all VFs.
    pub(super) fn check_capacity(
        self,
        routing: VfRouting,
        total_vfs: u16,
    ) -> Result<(), PlacementError> {
        // The PF has the ARI capability where the port forwards ARI.
        let capacity = routing.capacity(self.pf, self.port.forwards_ari(), self.port);
        if total_vfs <= capacity {
            return Ok(());
        }
        Err(PlacementError::Capacity {
            total_vfs,
            capacity,
            routing,
            port: self.port,
        })
    }

    /// The segment.
    #[must_use]
    pub const fn segment(self) -> u32 {
        self.segment
    }

    /// The port above.
    #[must_use]
    pub const fn port(self) -> Port {
        self.port
    }

    /// The PF's routing id.
    #[must_use]
    pub const fn routing_id(self) -> RoutingId {
        self.pf
    }
}
