//! What is put into the domain of the checks, and where.

use hdv::domain::{Domain, Position};
use hdv::pci::Port;
use hdv::pci::capability::Slot;
use hdv::{Function, pci_function};
use hdv_devices::{Created, DeviceKind, catalog};
use hdv_sriov::{EmulatedPf, Placement};

use crate::test::Failure;

/// The sensors inside.
const SENSORS: usize = 4;

/// Two functions in a slot, a switch with one in a slot and one without, a PF.
pub(super) fn fill(domain: &Domain) -> Result<(), Failure> {
    let slot = domain.add_root_port(1, 0, Some(Slot::hot_plug(1)))?;
    let switch = domain.add_root_port(2, 0, None)?;
    let below = domain.add_switch(switch, &[None, Some(Slot::hot_plug(2))])?;
    let positions: [Position; SENSORS] = [
        Position::below(slot),
        Position::below(slot).function(1),
        Position::below(below[0]),
        Position::below(below[1]),
    ];
    for (position, number) in positions.into_iter().zip(1..) {
        domain.attach(position, &format!("sensor {number}"), sensor()?, &[])?;
    }
    let port = domain.add_root_port(3, 0, None)?;
    let Created::PhysicalFunction {
        pf, mut options, ..
    } = create("sriov-sensor")?
    else {
        return Err("the SR-IOV sensor is no PF".into());
    };
    options.guest_controls_sriov = true;
    // The guest numbers the buses; what counts is that the port forwards ARI.
    options.placement = Placement::new(0, Port::new(1, 1)?.ari_forwarding(true), 0, 0)?;
    EmulatedPf::inside(domain, Position::below(port), "pf", pf, options)?;
    Ok(())
}

pub(super) fn sensor() -> Result<Box<dyn Function>, Failure> {
    match create("sensor")? {
        Created::Device(device) => Ok(pci_function(device)?),
        Created::PhysicalFunction { .. } => Err("the sensor is a PF".into()),
    }
}

fn create(name: &str) -> Result<Created, Failure> {
    let is_it = |kind: &&DeviceKind| kind.name == name;
    let kind = catalog().iter().find(is_it);
    let kind = kind.ok_or_else(|| format!("there is no device {name}"))?;
    let settings = [("source".to_owned(), "sine".to_owned())].into();
    Ok(kind.create(&settings)?)
}
