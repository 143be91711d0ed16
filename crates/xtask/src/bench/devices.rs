//! Memory of a process that serves many idle devices, all of them connected and answering.

use std::os::fd::AsFd;

use hdv_devices::sensor::registers::{IDENTIFICATION, IDENTIFICATION_VALUE};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio;

use super::error::{BenchError, During};
use super::peer::{Peer, Role};
use super::process::Memory;
use super::report::{Section, Unit};

/// How many devices.
const MANY: usize = 256;

/// Bytes that all devices beyond the first may take.
const TARGET: f64 = 16.0 * 1024.0 * 1024.0;

/// Measures one device and many.
pub(super) fn measure() -> Result<Section, BenchError> {
    let one = serve(1)?;
    let many = serve(MANY)?;
    let mut section = Section::new(
        format!("memory of {MANY} connected, idle sensors in one process"),
        Unit::Bytes,
    );
    let resident = many.resident - one.resident;
    let kernel = many.kernel - one.kernel;
    #[expect(clippy::cast_precision_loss, reason = "256")]
    let others = (MANY - 1) as f64;
    section
        .value("one device, resident (RSS)", one.resident, None)
        .value("one device, proportional (PSS)", one.proportional, None)
        .value(format!("{MANY} devices, RSS"), many.resident, None)
        .value(format!("{MANY} devices, PSS"), many.proportional, None)
        .value("beyond one device, RSS", resident, Some(TARGET))
        .value(
            "beyond one device, PSS",
            many.proportional - one.proportional,
            Some(TARGET),
        )
        .value("each, RSS", resident / others, None)
        .value(
            "beyond one device, kernel stacks and page tables",
            kernel,
            None,
        )
        .value(
            "beyond one device, RSS and those",
            resident + kernel,
            Some(TARGET),
        );
    Ok(section)
}

fn serve(count: usize) -> Result<Memory, BenchError> {
    let peer = Peer::start(Role::Sensors { count }, None, None)?;
    let mut clients = Vec::with_capacity(count);
    for index in 0..count {
        let path = peer.path().join(index.to_string());
        let client = Client::connect(&path, ClientOptions::default())
            .during(&format!("connecting to sensor {index}"))?;
        clients.push(client);
    }
    // All are connected; now every one of them must answer.
    for (index, client) in clients.iter_mut().enumerate() {
        let mut value = [0; 4];
        client
            .region_read(vfio::region::BAR0, IDENTIFICATION, &mut value)
            .during(&format!("reading sensor {index}"))?;
        if u32::from_le_bytes(value) != IDENTIFICATION_VALUE {
            return Err(BenchError::new(
                format!("reading sensor {index}"),
                format!("{value:02x?} is not its identification"),
            ));
        }
    }
    let memory = Memory::of(peer.pid())?;
    // Connected until here.
    for client in &clients {
        let _ = client.as_fd();
    }
    Ok(memory)
}
