//! The ports of a domain: what their config spaces are made of.

use hdv_pci::capability::{AccessControlServices, Aer, Slot};
use hdv_pci::{ClassCode, ConfigError, ConfigSpace, Identity, Msi, PciExpress, PowerManagement};

/// A bridge from PCI to PCI (class code 06h, subclass 04h).
const CLASS: ClassCode = ClassCode::from_u24(0x06_0400);
const VENDOR: u16 = 0x4f48;
const ROOT_PORT: u16 = 0x0d10;
const UPSTREAM_PORT: u16 = 0x0d11;
const DOWNSTREAM_PORT: u16 = 0x0d12;

fn identity(device_id: u16) -> Identity {
    Identity {
        vendor_id: VENDOR,
        device_id,
        revision_id: 0,
        class: CLASS,
        subsystem_vendor_id: VENDOR,
        subsystem_id: device_id,
    }
}

fn port(device_id: u16, express: PciExpress) -> hdv_pci::ConfigSpaceBuilder {
    ConfigSpace::bridge_builder(identity(device_id))
        .capability(PowerManagement::new())
        .capability(Msi::with_64_bit_address(1).per_vector_mask())
        .capability(express)
}

fn with_slot(express: PciExpress, slot: Option<Slot>) -> PciExpress {
    match slot {
        Some(slot) => express.slot(slot),
        None => express,
    }
}

pub(super) fn root_port(number: u8, slot: Option<Slot>) -> Result<ConfigSpace, ConfigError> {
    port(ROOT_PORT, with_slot(PciExpress::root_port(number), slot))
        .extended_capability(Aer::root_port())
        .extended_capability(AccessControlServices::port())
        .build()
}

pub(super) fn upstream_port() -> Result<ConfigSpace, ConfigError> {
    port(UPSTREAM_PORT, PciExpress::upstream_port(0))
        .extended_capability(Aer::new())
        .build()
}

pub(super) fn downstream_port(number: u8, slot: Option<Slot>) -> Result<ConfigSpace, ConfigError> {
    let express = with_slot(PciExpress::downstream_port(number), slot);
    port(DOWNSTREAM_PORT, express)
        .extended_capability(Aer::new())
        .extended_capability(AccessControlServices::port())
        .build()
}
