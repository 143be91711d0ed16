//! A capability of either kind and where it was put.

use crate::capability::{Capability, CapabilityRegisters, ExtendedCapability};

/// A capability and where it was put.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) offset: u16,
    pub(crate) length: u16,
    pub(crate) capability: AnyCapability,
}

/// A capability of either kind.
#[derive(Debug)]
pub(crate) enum AnyCapability {
    Compatible(Box<dyn Capability>),
    Extended(Box<dyn ExtendedCapability>),
}

impl AnyCapability {
    pub(crate) fn registers(&self) -> &dyn CapabilityRegisters {
        match self {
            Self::Compatible(capability) => capability.as_ref(),
            Self::Extended(capability) => capability.as_ref(),
        }
    }

    pub(crate) fn registers_mut(&mut self) -> &mut dyn CapabilityRegisters {
        match self {
            Self::Compatible(capability) => capability.as_mut(),
            Self::Extended(capability) => capability.as_mut(),
        }
    }
}
