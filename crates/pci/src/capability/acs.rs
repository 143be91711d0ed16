//! The access control services extended capability (PCI Express Base Specification 7.7.8): its
//! registers. Nothing here refuses or redirects requests.

use super::{BarPlan, CapabilityRegisters, Change, ExtendedCapability, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::acs::{self, AccessControl};
use crate::spec::extended::extended_capability_id;

/// Access control services, without egress control and translated requests to peers.
#[derive(Clone, Copy, Debug)]
pub struct AccessControlServices {
    capabilities: AccessControl,
}

impl AccessControlServices {
    /// All that a root port or a downstream port of a switch has.
    #[must_use]
    pub const fn port() -> Self {
        Self {
            capabilities: AccessControl::PORT,
        }
    }

    /// All that a function has whose device has several: control of requests to the other ones and
    /// their completions.
    #[must_use]
    pub const fn function() -> Self {
        Self {
            capabilities: AccessControl::P2P_REQUEST_REDIRECT
                .union(AccessControl::P2P_COMPLETION_REDIRECT),
        }
    }
}

impl CapabilityRegisters for AccessControlServices {
    fn name(&self) -> &'static str {
        "access control services"
    }

    fn length(&self) -> u16 {
        acs::LENGTH
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let bits = self.capabilities.bits().into();
        window.define_u16(acs::CAPABILITIES, Field::read_only(bits));
        window.define_u16(acs::CONTROL, Field::read_only(0).writable(bits));
    }

    fn written(&mut self, _window: &mut Window<'_>, _change: Change) -> Effects {
        Effects::empty()
    }
}

impl ExtendedCapability for AccessControlServices {
    fn id(&self) -> u16 {
        extended_capability_id::ACS
    }
}
