//! A domain made of its description.

use hdv::domain::{Domain, DomainEndpoint, Position};
use hdv::pci::capability::Slot as PhysicalSlot;
use hdv::pci::topology::PortId;
use hdv_sriov::EmulatedPf;

use super::DomainDocument;
use super::error::AttachError;
use super::kind;
use super::plan::{Below, Port, Slot};

/// A domain that was made of its description.
#[derive(Debug)]
#[non_exhaustive]
pub struct Built {
    /// The domain.
    pub domain: Domain,
    /// What a VM gets it by.
    pub endpoint: DomainEndpoint,
    /// The PFs in it, by the names that they have there, to be [published](EmulatedPf::publish).
    pub pfs: Vec<(String, EmulatedPf)>,
}

/// Device numbers of a bus.
const DEVICES: u8 = 32;

impl DomainDocument {
    /// Makes the domain, with everything in it powered on.
    ///
    /// # Errors
    /// A device's own.
    pub fn build(&self) -> Result<Built, AttachError> {
        let (domain, endpoint) = Domain::new(self.options)?;
        let mut pfs = Vec::new();
        for (number, port) in (0_u8..).zip(&self.ports) {
            // Device 0 comes last: on most machines it is no port.
            let (device, function) = ((number + 1) % DEVICES, number / DEVICES);
            let id = domain.add_root_port(device, function, port.slot.map(physical))?;
            fill(&domain, id, port, &mut pfs)?;
        }
        Ok(Built {
            domain,
            endpoint,
            pfs,
        })
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

/// Puts what is below a port there, and its PFs into `pfs`.
fn fill(
    domain: &Domain,
    id: PortId,
    port: &Port,
    pfs: &mut Vec<(String, EmulatedPf)>,
) -> Result<(), AttachError> {
    domain.set_port_name(id, &port.name)?;
    match &port.below {
        Below::Functions(functions) => {
            for function in functions {
                let created = kind::create(function.kind, &function.settings)?;
                let position = Position::below(id).function(function.number);
                let pf = kind::put(domain, position, &function.name, created)?;
                pfs.extend(pf.map(|pf| (function.name.clone(), pf)));
            }
        }
        Below::Switch(ports) => {
            let slots: Vec<_> = ports.iter().map(|port| port.slot.map(physical)).collect();
            let ids = domain.add_switch(id, &slots)?;
            for (id, port) in ids.into_iter().zip(ports) {
                fill(domain, id, port, pfs)?;
            }
        }
    }
    Ok(())
}
