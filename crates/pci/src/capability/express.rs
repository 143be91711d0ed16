//! The PCI Express capability of an endpoint (PCI Express Base Specification 7.5.3).

use super::{BarPlan, Capability, CapabilityRegisters, Change, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::capability_id;
use crate::spec::express::{
    self, DeviceCapabilities, DeviceCapabilities2, DeviceControl, DeviceControl2, DeviceStatus,
    LinkCapabilities, LinkCapabilities2, LinkControl, LinkStatus,
};

/// A PCI Express endpoint on a 2.5 GT/s link of one lane.
#[derive(Clone, Copy, Debug)]
pub struct PciExpress {
    function_level_reset: bool,
    max_payload: u16,
}

impl PciExpress {
    /// An endpoint with function level reset and payloads of up to 256 bytes.
    #[must_use]
    pub const fn endpoint() -> Self {
        Self {
            function_level_reset: true,
            max_payload: 256,
        }
    }

    /// The endpoint has no function level reset.
    #[must_use]
    pub const fn without_function_level_reset(self) -> Self {
        Self {
            function_level_reset: false,
            ..self
        }
    }

    /// The largest payload the endpoint supports, in bytes: a power of two from 128 to 4096.
    #[must_use]
    pub const fn max_payload(self, bytes: u16) -> Self {
        Self {
            max_payload: bytes,
            ..self
        }
    }

    fn device_capabilities(self) -> u32 {
        let mut capabilities =
            DeviceCapabilities::EXTENDED_TAG | DeviceCapabilities::ROLE_BASED_ERROR_REPORTING;
        capabilities.set(
            DeviceCapabilities::FUNCTION_LEVEL_RESET,
            self.function_level_reset,
        );
        capabilities.bits() | (self.max_payload / express::MAX_PAYLOAD_MIN).trailing_zeros()
    }

    fn device_control(self) -> Field {
        let payload = DeviceControl::MAX_PAYLOAD_SIZE;
        let mut writable = DeviceControl::WRITABLE | DeviceControl::EXTENDED_TAG;
        writable.set(payload, self.max_payload > express::MAX_PAYLOAD_MIN);
        writable.set(
            DeviceControl::INITIATE_FUNCTION_LEVEL_RESET,
            self.function_level_reset,
        );
        Field::read_only(DeviceControl::RESET.bits().into())
            .writable(writable.bits().into())
            .preserved(payload.bits().into())
    }
}

impl CapabilityRegisters for PciExpress {
    fn name(&self) -> &'static str {
        "PCI Express"
    }

    fn length(&self) -> u16 {
        express::LENGTH
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        let range = express::MAX_PAYLOAD_MIN..=express::MAX_PAYLOAD_MAX;
        if range.contains(&self.max_payload) && self.max_payload.is_power_of_two() {
            Ok(())
        } else {
            Err(ConfigError::MaxPayload(self.max_payload))
        }
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let capabilities = express::VERSION | express::TYPE_ENDPOINT;
        window.define_u16(express::CAPABILITIES, Field::read_only(capabilities.into()));
        window.define_u32(
            express::DEVICE_CAPABILITIES,
            Field::read_only(self.device_capabilities()),
        );
        window.define_u16(express::DEVICE_CONTROL, self.device_control());
        window.define_u16(
            express::DEVICE_STATUS,
            Field::read_only(0).write_one_to_clear(DeviceStatus::WRITE_ONE_TO_CLEAR.bits().into()),
        );

        let link = LinkCapabilities::SPEED_2_5
            | LinkCapabilities::WIDTH_X1
            | LinkCapabilities::ASPM_OPTIONALITY;
        window.define_u32(express::LINK_CAPABILITIES, Field::read_only(link.bits()));
        let link_control = LinkControl::WRITABLE.bits().into();
        window.define_u16(
            express::LINK_CONTROL,
            Field::read_only(0)
                .writable(link_control)
                .preserved(link_control),
        );
        let link_status = LinkStatus::SPEED_2_5 | LinkStatus::WIDTH_X1 | LinkStatus::SLOT_CLOCK;
        window.define_u16(
            express::LINK_STATUS,
            Field::read_only(link_status.bits().into()),
        );

        let capabilities_2 = DeviceCapabilities2::COMPLETION_TIMEOUT_DISABLE;
        window.define_u32(
            express::DEVICE_CAPABILITIES_2,
            Field::read_only(capabilities_2.bits()),
        );
        let control_2 = DeviceControl2::COMPLETION_TIMEOUT_DISABLE;
        window.define_u16(
            express::DEVICE_CONTROL_2,
            Field::read_only(0).writable(control_2.bits().into()),
        );
        window.define_u32(
            express::LINK_CAPABILITIES_2,
            Field::read_only(LinkCapabilities2::SPEED_2_5.bits()),
        );
        window.define_u16(
            express::LINK_CONTROL_2,
            Field::read_only(express::SPEED_2_5.into()),
        );
    }

    fn written(&mut self, window: &mut Window<'_>, change: Change) -> Effects {
        let reset = u32::from(DeviceControl::INITIATE_FUNCTION_LEVEL_RESET.bits());
        if change.offset != express::DEVICE_CONTROL || change.after & reset == 0 {
            return Effects::empty();
        }
        window.set_u32(express::DEVICE_CONTROL, reset, 0);
        Effects::FUNCTION_LEVEL_RESET
    }
}

impl Capability for PciExpress {
    fn id(&self) -> u8 {
        capability_id::PCI_EXPRESS
    }
}
