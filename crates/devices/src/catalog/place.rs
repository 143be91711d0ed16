//! The settings that every PF of the catalog has: where it is, which VFs are enabled, who controls them.

use hdv::pci::{Port, VfRouting};
use hdv_sriov::{PciAddress, PfOptions, Placement, PlacementError};

use super::values::{CreateError, Setting, Values};

/// Where a PF is.
pub(super) const PLACE: Setting = Setting {
    key: "place",
    // Firmware counts segments from 0 and Linux the domains of endpoints that carry one from 10000: no real
    // device of this machine is mistaken for it. And it has 16 bits, as segments have in C.
    default: "f000:01:00.0",
    help: "where the PF is: segment:bus:device.function",
};
/// Buses beyond its own.
pub(super) const BUSES: Setting = Setting {
    key: "buses",
    default: "auto",
    help: "buses captured for VFs beyond the PF's own, 0 to 255, or as many as vfs needs",
};
/// What the port above does.
pub(super) const ARI: Setting = Setting {
    key: "ari",
    default: "yes",
    help: "the port above forwards ARI: a bus has 256 functions, not 8",
};
/// VFs from the start.
pub(super) const ENABLE: Setting = Setting {
    key: "enable",
    default: "0",
    help: "how many VFs are enabled from the start",
};
/// Who controls VFs.
pub(super) const GUEST: Setting = Setting {
    key: "guest",
    default: "no",
    help: "the VM that has the PF enables and disables VFs",
};

/// What the settings say of a PF with `total_vfs` VFs at most: its options, and how many VFs to enable.
pub(super) fn read(values: &Values<'_>, total_vfs: u16) -> Result<(PfOptions, u16), CreateError> {
    let options = PfOptions {
        guest_controls_sriov: values.switch(GUEST.key)?,
        ..PfOptions::new(placement(values, total_vfs)?)
    };
    let enable = values.number(ENABLE.key, 0..=total_vfs.into())?;
    Ok((options, enable))
}

fn placement(values: &Values<'_>, total_vfs: u16) -> Result<Placement, CreateError> {
    let place: PciAddress = values.read(PLACE.key)?;
    let ari = values.switch(ARI.key)?;
    let bus = place.routing_id.bus();
    let with = |subordinate| {
        let port = Port::new(bus, subordinate).map_err(PlacementError::from)?;
        let port = port.ari_forwarding(ari);
        let (device, function) = (place.routing_id.device(), place.routing_id.function());
        let placement = Placement::new(place.segment, port, device, function)?;
        let pf = placement.routing_id();
        let routing = VfRouting::packed(pf, total_vfs, ari);
        match routing.capacity(pf, ari, port) {
            capacity if capacity < total_vfs => Err(PlacementError::Capacity {
                total_vfs,
                capacity,
                routing,
                port,
            }),
            _ => Ok(placement),
        }
    };
    let most = u8::MAX - bus;
    let placed = match values.number_or::<u8>("auto", BUSES.key, 0..=most.into())? {
        Some(captured) => with(bus + captured),
        None => (bus..u8::MAX)
            .find_map(|subordinate| with(subordinate).ok())
            .map_or_else(|| with(u8::MAX), Ok),
    };
    placed.map_err(|error| values.refuse(BUSES.key, error))
}
