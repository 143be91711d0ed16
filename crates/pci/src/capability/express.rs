//! The PCI Express capability (PCI Express Base Specification 7.5.3) of endpoints, and what ports have
//! in common with them. What only ports have is in `express_port`.

use super::express_port::PortRegisters;
use super::slot::Slot;
use super::{BarPlan, Capability, CapabilityRegisters, Change, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::port_view::PortKind;
use crate::registers::Field;
use crate::spec::capability_id;
use crate::spec::express::{
    self, DeviceCapabilities, DeviceCapabilities2, DeviceControl, DeviceControl2, DeviceStatus,
    LinkCapabilities, LinkCapabilities2, LinkControl, LinkStatus,
};

/// A PCI Express endpoint or port on a 2.5 GT/s link of one lane.
#[derive(Clone, Copy, Debug)]
pub struct PciExpress {
    /// What only ports have; `None` in an endpoint.
    port: Option<PortRegisters>,
    function_level_reset: bool,
    max_payload: u16,
    /// A slot that was declared where none can be.
    misplaced_slot: bool,
}

impl PciExpress {
    /// An endpoint with function level reset and payloads of up to 256 bytes.
    #[must_use]
    pub const fn endpoint() -> Self {
        Self {
            port: None,
            function_level_reset: true,
            max_payload: 256,
            misplaced_slot: false,
        }
    }

    const fn port(kind: PortKind, number: u8) -> Self {
        Self {
            port: Some(PortRegisters::new(kind, number)),
            function_level_reset: false,
            ..Self::endpoint()
        }
    }

    /// A root port, for a [bridge](crate::ConfigSpace::bridge_builder), without a slot and with
    /// payloads of up to 256 bytes. The number tells it from the other ports of its root complex,
    /// 0 to 255.
    #[must_use]
    pub const fn root_port(port_number: u8) -> Self {
        Self::port(PortKind::Root, port_number)
    }

    /// The upstream port of a switch, for a [bridge](crate::ConfigSpace::bridge_builder), with
    /// payloads of up to 256 bytes. The number tells it from the switch's other ports, 0 to 255.
    #[must_use]
    pub const fn upstream_port(port_number: u8) -> Self {
        Self::port(PortKind::Upstream, port_number)
    }

    /// A downstream port of a switch, for a [bridge](crate::ConfigSpace::bridge_builder), without a
    /// slot and with payloads of up to 256 bytes. The number tells it from the switch's other
    /// ports, 0 to 255.
    #[must_use]
    pub const fn downstream_port(port_number: u8) -> Self {
        Self::port(PortKind::Downstream, port_number)
    }

    /// The root port or downstream port leads to a slot.
    #[must_use]
    pub const fn slot(self, slot: Slot) -> Self {
        match self.port {
            Some(port) if port.kind.has_link_below() => Self {
                port: Some(port.slot(slot)),
                ..self
            },
            _ => Self {
                misplaced_slot: true,
                ..self
            },
        }
    }

    /// The endpoint has no function level reset; no port has one.
    #[must_use]
    pub const fn without_function_level_reset(self) -> Self {
        Self {
            function_level_reset: false,
            ..self
        }
    }

    /// The largest payload the function supports, in bytes: a power of two from 128 to 4096.
    #[must_use]
    pub const fn max_payload(self, bytes: u16) -> Self {
        Self {
            max_payload: bytes,
            ..self
        }
    }

    fn device_capabilities(self) -> u32 {
        let mut capabilities = DeviceCapabilities::ROLE_BASED_ERROR_REPORTING;
        capabilities.set(DeviceCapabilities::EXTENDED_TAG, self.port.is_none());
        capabilities.set(
            DeviceCapabilities::FUNCTION_LEVEL_RESET,
            self.function_level_reset,
        );
        capabilities.bits() | (self.max_payload / express::MAX_PAYLOAD_MIN).trailing_zeros()
    }

    fn device_control(self) -> Field {
        let payload = DeviceControl::MAX_PAYLOAD_SIZE;
        let (mut writable, reset) = if self.port.is_some() {
            (DeviceControl::REPORTING, DeviceControl::empty())
        } else {
            let tag = DeviceControl::EXTENDED_TAG;
            (DeviceControl::WRITABLE | tag, DeviceControl::RESET)
        };
        writable.set(payload, self.max_payload > express::MAX_PAYLOAD_MIN);
        writable.set(
            DeviceControl::INITIATE_FUNCTION_LEVEL_RESET,
            self.function_level_reset,
        );
        Field::read_only(reset.bits().into())
            .writable(writable.bits().into())
            .preserved(payload.bits().into())
    }

    fn lay_out_device(self, window: &mut Window<'_>) {
        window.define_u32(
            express::DEVICE_CAPABILITIES,
            Field::read_only(self.device_capabilities()),
        );
        window.define_u16(express::DEVICE_CONTROL, self.device_control());
        window.define_u16(
            express::DEVICE_STATUS,
            Field::read_only(0).write_one_to_clear(DeviceStatus::WRITE_ONE_TO_CLEAR.bits().into()),
        );
        let (capabilities_2, control_2) = match self.port {
            Some(port) => port.device_2(),
            None => (
                DeviceCapabilities2::COMPLETION_TIMEOUT_DISABLE,
                DeviceControl2::COMPLETION_TIMEOUT_DISABLE,
            ),
        };
        window.define_u32(
            express::DEVICE_CAPABILITIES_2,
            Field::read_only(capabilities_2.bits()),
        );
        window.define_u16(
            express::DEVICE_CONTROL_2,
            Field::read_only(0).writable(control_2.bits().into()),
        );
    }

    fn lay_out_link(self, window: &mut Window<'_>) {
        let link = LinkCapabilities::SPEED_2_5
            | LinkCapabilities::WIDTH_X1
            | LinkCapabilities::ASPM_OPTIONALITY;
        let (more, link_control) = match self.port {
            Some(port) => (port.link_capabilities(), port.link_control()),
            None => (0, LinkControl::WRITABLE),
        };
        window.define_u32(
            express::LINK_CAPABILITIES,
            Field::read_only(link.bits() | more),
        );
        let link_control = link_control.bits().into();
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
        window.define_u32(
            express::LINK_CAPABILITIES_2,
            Field::read_only(LinkCapabilities2::SPEED_2_5.bits()),
        );
        window.define_u16(
            express::LINK_CONTROL_2,
            Field::read_only(express::SPEED_2_5.into()),
        );
    }
}

impl CapabilityRegisters for PciExpress {
    fn name(&self) -> &'static str {
        "PCI Express"
    }

    fn length(&self) -> u16 {
        express::LENGTH
    }

    fn check(&self, bars: &mut BarPlan) -> Result<(), ConfigError> {
        let express = self.port.map_or("an endpoint", |port| port.kind.name());
        if bars.is_bridge() != self.port.is_some() {
            let header = if bars.is_bridge() {
                "a bridge"
            } else {
                "a function that is none"
            };
            return Err(ConfigError::ExpressHeader { express, header });
        }
        if self.misplaced_slot {
            return Err(ConfigError::SlotPlace(express));
        }
        if let Some(slot) = self.port.and_then(|port| port.slot) {
            slot.check()?;
        }
        let range = express::MAX_PAYLOAD_MIN..=express::MAX_PAYLOAD_MAX;
        if range.contains(&self.max_payload) && self.max_payload.is_power_of_two() {
            Ok(())
        } else {
            Err(ConfigError::MaxPayload(self.max_payload))
        }
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let kind = self
            .port
            .map_or(express::TYPE_ENDPOINT, PortRegisters::capabilities);
        let capabilities = express::VERSION | kind;
        window.define_u16(express::CAPABILITIES, Field::read_only(capabilities.into()));
        self.lay_out_device(window);
        self.lay_out_link(window);
        if let Some(port) = self.port {
            port.lay_out(window);
        }
    }

    fn written(&mut self, window: &mut Window<'_>, change: Change) -> Effects {
        if let Some(port) = self.port {
            return port.written(window, change);
        }
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
