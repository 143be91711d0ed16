//! A domain made of its description.

use hdv::domain::{Domain, DomainEndpoint, Position};
use hdv::pci::capability::Slot as PhysicalSlot;
use hdv::pci::topology::PortId;

use super::DomainDocument;
use super::error::AttachError;
use super::kind;
use super::plan::{Below, Port, Slot};

/// Device numbers of a bus.
const DEVICES: u8 = 32;

impl DomainDocument {
    /// Makes the domain, with everything in it powered on, and the endpoint that a VM gets it by.
    ///
    /// # Errors
    /// A device's own.
    pub fn build(&self) -> Result<(Domain, DomainEndpoint), AttachError> {
        let (domain, endpoint) = Domain::new(self.options)?;
        for (number, port) in (0_u8..).zip(&self.ports) {
            // Device 0 comes last: on most machines it is no port.
            let (device, function) = ((number + 1) % DEVICES, number / DEVICES);
            let id = domain.add_root_port(device, function, port.slot.map(physical))?;
            fill(&domain, id, port)?;
        }
        Ok((domain, endpoint))
    }
}

fn physical(slot: Slot) -> PhysicalSlot {
    let made = PhysicalSlot::hot_plug(slot.number);
    if slot.button {
        made.attention_button()
    } else {
        made
    }
}

fn fill(domain: &Domain, id: PortId, port: &Port) -> Result<(), AttachError> {
    domain.set_port_name(id, &port.name)?;
    match &port.below {
        Below::Functions(functions) => {
            for function in functions {
                let created = kind::create(function.kind, &function.settings)?;
                let position = Position::below(id).function(function.number);
                kind::put(domain, position, &function.name, created)?;
            }
        }
        Below::Switch(ports) => {
            let slots: Vec<_> = ports.iter().map(|port| port.slot.map(physical)).collect();
            let ids = domain.add_switch(id, &slots)?;
            for (id, port) in ids.into_iter().zip(ports) {
                fill(domain, id, port)?;
            }
        }
    }
    Ok(())
}
