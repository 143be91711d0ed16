//! The device serial number extended capability (PCI Express Base Specification 7.9.3).

use super::{BarPlan, CapabilityRegisters, Change, ExtendedCapability, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::extended::{self, extended_capability_id};

/// A serial number, an EUI-64.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSerialNumber {
    number: u64,
}

impl DeviceSerialNumber {
    /// The serial number; its most significant byte is the first of the EUI-64.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { number }
    }
}

impl CapabilityRegisters for DeviceSerialNumber {
    fn name(&self) -> &'static str {
        "device serial number"
    }

    fn length(&self) -> u16 {
        extended::SERIAL_NUMBER_LENGTH
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        for (byte, offset) in self
            .number
            .to_le_bytes()
            .into_iter()
            .zip(extended::SERIAL_NUMBER..)
        {
            window.define_u8(offset, Field::read_only(byte.into()));
        }
    }

    fn written(&mut self, _window: &mut Window<'_>, _change: Change) -> Effects {
        Effects::empty()
    }
}

impl ExtendedCapability for DeviceSerialNumber {
    fn id(&self) -> u16 {
        extended_capability_id::DEVICE_SERIAL_NUMBER
    }
}
