//! What the PCI Express capability of a port has beyond that of an endpoint (PCI Express Base
//! Specification 7.5.3): link control, ARI forwarding, slot and root registers.

use super::slot::Slot;
use super::{Change, Window};
use crate::effects::Effects;
use crate::port_view::PortKind;
use crate::registers::Field;
use crate::spec::express::{
    self, DeviceCapabilities2, DeviceControl2, LinkCapabilities, LinkControl,
};
use crate::spec::port::{
    self, ROOT_CAPABILITIES, ROOT_CONTROL, ROOT_STATUS, RootCapabilities, RootControl, RootStatus,
    SLOT_CONTROL, SLOT_STATUS, SlotStatus,
};

/// A port.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortRegisters {
    pub(super) kind: PortKind,
    pub(super) slot: Option<Slot>,
    number: u8,
}

impl PortRegisters {
    pub(super) const fn new(kind: PortKind, number: u8) -> Self {
        Self {
            kind,
            slot: None,
            number,
        }
    }

    pub(super) const fn slot(self, slot: Slot) -> Self {
        Self {
            slot: Some(slot),
            ..self
        }
    }

    /// PCI Express capabilities without the version.
    pub(super) fn capabilities(self) -> u16 {
        let slot = if self.slot.is_some() {
            port::SLOT_IMPLEMENTED
        } else {
            0
        };
        self.kind.device_type() | slot
    }

    /// Device capabilities 2 and what software can write in device control 2.
    pub(super) fn device_2(self) -> (DeviceCapabilities2, DeviceControl2) {
        let mut capabilities = DeviceCapabilities2::empty();
        let mut control = DeviceControl2::empty();
        if self.kind.has_link_below() {
            capabilities |= DeviceCapabilities2::ARI_FORWARDING;
            control |= DeviceControl2::ARI_FORWARDING;
        }
        // Ports of switches make no requests of their own.
        if self.kind == PortKind::Root {
            capabilities |= DeviceCapabilities2::COMPLETION_TIMEOUT_DISABLE;
            control |= DeviceControl2::COMPLETION_TIMEOUT_DISABLE;
        }
        (capabilities, control)
    }

    /// Link capabilities beyond an endpoint's.
    pub(super) fn link_capabilities(self) -> u32 {
        let mut capabilities = LinkCapabilities::empty();
        capabilities.set(
            LinkCapabilities::DATA_LINK_LAYER_ACTIVE_REPORTING,
            self.kind.has_link_below(),
        );
        capabilities.bits() | u32::from(self.number) << port::PORT_NUMBER_SHIFT
    }

    /// The bits of link control that software can write.
    pub(super) fn link_control(self) -> LinkControl {
        let mut control = LinkControl::WRITABLE - LinkControl::READ_COMPLETION_BOUNDARY;
        let below = LinkControl::LINK_DISABLE | LinkControl::RETRAIN_LINK;
        control.set(below, self.kind.has_link_below());
        control
    }

    pub(super) fn lay_out(self, window: &mut Window<'_>) {
        if let Some(slot) = self.slot {
            slot.lay_out(window);
        } else if self.kind.has_link_below() {
            // Without a slot there is always something (7.5.3.11).
            let status = SlotStatus::PRESENCE_DETECT.bits().into();
            window.define_u16(SLOT_STATUS, Field::read_only(status));
        }
        if self.kind == PortKind::Root {
            let control = RootControl::WRITABLE.bits().into();
            window.define_u16(ROOT_CONTROL, Field::read_only(0).writable(control));
            let capabilities = RootCapabilities::CRS_SOFTWARE_VISIBILITY.bits().into();
            window.define_u16(ROOT_CAPABILITIES, Field::read_only(capabilities));
            let status = RootStatus::PME_STATUS.bits();
            window.define_u32(ROOT_STATUS, Field::read_only(0).write_one_to_clear(status));
        }
    }

    pub(super) fn written(self, window: &mut Window<'_>, change: Change) -> Effects {
        match (change.offset, self.slot) {
            (express::LINK_CONTROL, _) => {
                // The link is as good as new at once.
                let retrain = LinkControl::RETRAIN_LINK.bits().into();
                window.set_u32(express::LINK_CONTROL, retrain, 0);
                Effects::empty()
            }
            (SLOT_CONTROL, Some(slot)) => slot.written(window, change),
            (express::DEVICE_CONTROL_2, _) => {
                let ari = u32::from(DeviceControl2::ARI_FORWARDING.bits());
                if (change.before ^ change.after) & ari != 0 {
                    Effects::ARI_FORWARDING
                } else {
                    Effects::empty()
                }
            }
            _ => Effects::empty(),
        }
    }
}
