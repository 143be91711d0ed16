//! The vendor-specific capability (PCI Express Base Specification 7.9.4).

use super::{BarPlan, Capability, CapabilityRegisters, Change, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::{self, capability_id};

/// Most bytes a capability has: all between the header and 0x100.
const LENGTH_MAX: usize = (spec::COMPATIBLE_SIZE - spec::header::END) as usize;

/// Bytes that only the vendor gives a meaning; a function may have several.
#[derive(Clone, Debug)]
pub struct VendorSpecific {
    data: Vec<u8>,
    write_mask: Vec<u8>,
}

impl VendorSpecific {
    /// Read-only bytes, at most 189; they begin at offset 3, after the capability's length.
    pub fn new(data: impl Into<Vec<u8>>) -> Self {
        Self {
            data: data.into(),
            write_mask: Vec::new(),
        }
    }

    /// The bits that software can write; bytes beyond the mask stay read-only, and mask bytes
    /// beyond the data are ignored.
    #[must_use]
    pub fn writable(self, mask: impl Into<Vec<u8>>) -> Self {
        Self {
            write_mask: mask.into(),
            ..self
        }
    }
}

impl CapabilityRegisters for VendorSpecific {
    fn name(&self) -> &'static str {
        "vendor-specific"
    }

    fn length(&self) -> u16 {
        let length = usize::from(spec::VENDOR_SPECIFIC_DATA).saturating_add(self.data.len());
        u16::try_from(length).unwrap_or(u16::MAX)
    }

    fn unique(&self) -> bool {
        false
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        let min = usize::from(spec::VENDOR_SPECIFIC_DATA);
        let length = min.saturating_add(self.data.len());
        if length <= LENGTH_MAX {
            return Ok(());
        }
        Err(ConfigError::CapabilityLength {
            name: self.name(),
            length,
            min,
            max: LENGTH_MAX,
        })
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        window.define_u8(
            spec::VENDOR_SPECIFIC_LENGTH,
            Field::read_only(self.length().into()),
        );
        let masks = self.write_mask.iter().copied().chain(std::iter::repeat(0));
        for ((&byte, mask), offset) in self
            .data
            .iter()
            .zip(masks)
            .zip(spec::VENDOR_SPECIFIC_DATA..)
        {
            window.define_u8(offset, Field::read_only(byte.into()).writable(mask.into()));
        }
    }

    fn written(&mut self, _window: &mut Window<'_>, change: Change) -> Effects {
        if change.changed() {
            Effects::REGISTERS
        } else {
            Effects::empty()
        }
    }
}

impl Capability for VendorSpecific {
    fn id(&self) -> u8 {
        capability_id::VENDOR_SPECIFIC
    }
}
