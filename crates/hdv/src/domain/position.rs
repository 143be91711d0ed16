//! Where in a domain a function is put.

use hdv_pci::topology::{Parent, PortId};

/// A place for a function, in a domain's own numbers: buses are numbered by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Position {
    pub(super) parent: Parent,
    pub(super) device: u8,
    pub(super) function: u8,
}

impl Position {
    /// Below a root port or a downstream port: function 0 of the one device that is there.
    pub const fn below(port: PortId) -> Self {
        Self {
            parent: Parent::Port(port),
            device: 0,
            function: 0,
        }
    }

    /// On the root bus, as part of the root complex: function 0 of a device, 0 to 31.
    pub const fn on_root_bus(device: u8) -> Self {
        Self {
            parent: Parent::Root,
            device,
            function: 0,
        }
    }

    /// Another function of that device: up to 7, below a port up to 255 for a device with ARI. Function 0 comes first and
    /// goes last.
    pub const fn function(self, function: u8) -> Self {
        Self { function, ..self }
    }
}
