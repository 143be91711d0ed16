//! Domains of many functions: they are on the root bus, eight to a device, so that no port's registers are between them.

use std::path::Path;

use hdv::domain::{Domain, DomainOptions, Position};
use hdv::{DeviceHost, pci_function};

use crate::bench::device::Scratch;
use crate::bench::error::{BenchError, During};

/// Functions of a device.
const FUNCTIONS: u16 = 8;

/// Serves a domain with so many scratch devices, at most 256.
pub(in crate::bench) fn serve(
    host: &DeviceHost,
    socket: &Path,
    count: u16,
) -> Result<(), BenchError> {
    let (domain, endpoint) =
        Domain::new(DomainOptions::new().buses(1)).during("making a domain")?;
    for index in 0..count {
        let number = |value: u16| u8::try_from(value).during("numbering functions");
        let position = Position::on_root_bus(number(index / FUNCTIONS)?);
        let position = position.function(number(index % FUNCTIONS)?);
        let function = pci_function(Box::new(Scratch::new())).during("making a function")?;
        domain
            .attach(position, &format!("scratch {index}"), function, &[])
            .during("putting a function into a domain")?;
    }
    host.serve(socket, "domain", endpoint)
        .during("serving a domain")?;
    Ok(())
}
