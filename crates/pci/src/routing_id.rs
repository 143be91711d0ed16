//! A function's address in its segment: the routing id, with and without ARI.

use std::fmt;

/// Device numbers on a bus.
const DEVICES: u8 = 32;
/// Functions of a device without ARI.
const FUNCTIONS: u8 = 8;

/// Bus, device and function number in 16 bits (PCI Express Base Specification 2.2.4.2, 6.13):
/// bus in bits 15:8, device in 7:3, function in 2:0. With ARI bits 7:0 are one function number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingId(u16);

/// Device and function numbers that no function without ARI has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "device {device} function {function}: devices are 0 to 31 and functions 0 to 7; above that use ARI function numbers"
)]
pub struct RoutingIdError {
    /// The device number.
    pub device: u8,
    /// The function number.
    pub function: u8,
}

impl RoutingId {
    /// `device` is 0 to 31, `function` 0 to 7.
    ///
    /// # Errors
    /// Numbers above these.
    pub const fn new(bus: u8, device: u8, function: u8) -> Result<Self, RoutingIdError> {
        if device >= DEVICES || function >= FUNCTIONS {
            return Err(RoutingIdError { device, function });
        }
        Ok(Self::with_ari(bus, device * FUNCTIONS + function))
    }

    /// `function` is an ARI function number, 0 to 255.
    #[must_use]
    pub const fn with_ari(bus: u8, function: u8) -> Self {
        Self(u16::from_be_bytes([bus, function]))
    }

    /// The 16 bits.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The bus number, 0 to 255.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// The ARI function number, 0 to 255.
    #[must_use]
    pub const fn ari_function(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// The device number without ARI, 0 to 31.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.ari_function() / FUNCTIONS
    }

    /// The function number without ARI, 0 to 7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.ari_function() % FUNCTIONS
    }

    /// The same device and function on another bus.
    #[must_use]
    pub const fn on_bus(self, bus: u8) -> Self {
        Self::with_ari(bus, self.ari_function())
    }
}

impl From<u16> for RoutingId {
    fn from(id: u16) -> Self {
        Self(id)
    }
}

impl From<RoutingId> for u16 {
    fn from(id: RoutingId) -> Self {
        id.0
    }
}

/// As `lspci` writes it, without ARI and in hexadecimal: `bus:device.function`.
impl fmt::Display for RoutingId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bus, device, function) = (self.bus(), self.device(), self.function());
        write!(formatter, "{bus:02x}:{device:02x}.{function}")
    }
}
