//! The ARI extended capability (PCI Express Base Specification 7.8.7).

use super::{BarPlan, CapabilityRegisters, Change, ExtendedCapability, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::ari;
use crate::spec::extended::extended_capability_id;

/// Alternative routing-id interpretation: the function has a number of 8 bits. Without function
/// groups, so all is read-only.
#[derive(Clone, Copy, Debug)]
pub struct Ari {
    next_function: u8,
}

impl Ari {
    /// The function after this one in its device's list, by number; 0 if this is the last one, and
    /// in every VF, which software finds by [`Sriov`](super::Sriov) instead.
    #[must_use]
    pub const fn new(next_function: u8) -> Self {
        Self { next_function }
    }
}

impl CapabilityRegisters for Ari {
    fn name(&self) -> &'static str {
        "ARI"
    }

    fn length(&self) -> u16 {
        ari::LENGTH
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let next = u32::from(self.next_function) << ari::NEXT_FUNCTION_SHIFT;
        window.define_u16(ari::CAPABILITIES, Field::read_only(next));
        window.define_u16(ari::CONTROL, Field::read_only(0));
    }

    fn written(&mut self, _window: &mut Window<'_>, _change: Change) -> Effects {
        Effects::empty()
    }
}

impl ExtendedCapability for Ari {
    fn id(&self) -> u16 {
        extended_capability_id::ARI
    }
}
