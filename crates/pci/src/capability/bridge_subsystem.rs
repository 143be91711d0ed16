//! The subsystem ids of a bridge, whose header has no place for them (PCI-to-PCI Bridge Architecture
//! Specification 3.2.5.13).

use super::{BarPlan, Capability, CapabilityRegisters, Change, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::identity::Identity;
use crate::registers::Field;
use crate::spec::{self, capability_id};

/// Subsystem vendor id and subsystem id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BridgeSubsystem {
    vendor_id: u16,
    id: u16,
}

impl BridgeSubsystem {
    pub(crate) fn of(identity: &Identity) -> Self {
        Self {
            vendor_id: identity.subsystem_vendor_id,
            id: identity.subsystem_id,
        }
    }
}

impl CapabilityRegisters for BridgeSubsystem {
    fn name(&self) -> &'static str {
        "bridge subsystem"
    }

    fn length(&self) -> u16 {
        spec::BRIDGE_SUBSYSTEM_LENGTH
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let ids = u32::from(self.id) << 16 | u32::from(self.vendor_id);
        window.define_u32(spec::BRIDGE_SUBSYSTEM_IDS, Field::read_only(ids));
    }

    fn written(&mut self, _window: &mut Window<'_>, _change: Change) -> Effects {
        Effects::empty()
    }
}

impl Capability for BridgeSubsystem {
    fn id(&self) -> u8 {
        capability_id::BRIDGE_SUBSYSTEM
    }
}
