//! Memory of VFs that nobody uses, and of those that have a client which does nothing.

use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio;

use super::pf::TOTAL_VFS;
use super::socket;
use crate::bench::error::{BenchError, During};
use crate::bench::peer::{Peer, Role};
use crate::bench::process::Memory;
use crate::bench::report::{Section, Unit};

/// Bytes that a VF may take which is enabled and idle.
const TARGET: f64 = 32.0 * 1024.0;

/// Measures a PF without VFs, with idle ones, and with connected ones.
pub(in crate::bench) fn measure() -> Result<Section, BenchError> {
    let none = Peer::start(Role::VirtualFunctions { count: 0 }, None, None)?;
    let without = Memory::of(none.pid())?;
    let peer = Peer::start(Role::VirtualFunctions { count: TOTAL_VFS }, None, None)?;
    let enabled = Memory::of(peer.pid())?;
    // Kept until what they cost was read.
    let clients = connect(&peer)?;
    let connected = Memory::of(peer.pid())?;
    drop(clients);

    let mut section = Section::new(
        format!("memory of {TOTAL_VFS} VFs in one process"),
        Unit::Bytes,
    );
    section.value("the PF without VFs, RSS", without.resident, None);
    for (name, memory) in [
        ("enabled, never used", enabled),
        ("connected and idle", connected),
    ] {
        let each =
            |part: fn(&Memory) -> f64| (part(&memory) - part(&without)) / f64::from(TOTAL_VFS);
        let resident = each(|memory| memory.resident);
        let kernel = each(|memory| memory.kernel);
        section
            .value(format!("{name}: each, RSS"), resident, Some(TARGET))
            .value(
                format!("{name}: each, PSS"),
                each(|memory| memory.proportional),
                Some(TARGET),
            )
            .value(
                format!("{name}: each, kernel stacks and page tables"),
                kernel,
                None,
            );
    }
    Ok(section)
}

/// A client of each VF, which has answered it.
fn connect(peer: &Peer) -> Result<Vec<Client>, BenchError> {
    let mut clients = Vec::with_capacity(TOTAL_VFS.into());
    for vf in 0..TOTAL_VFS {
        let doing = format!("connecting to VF {vf}");
        let options = ClientOptions::default();
        let mut client = Client::connect(&socket(peer.path(), vf), options).during(&doing)?;
        let written = u32::from(vf).to_le_bytes();
        client
            .region_write(vfio::region::BAR0, 0, &written)
            .during(&doing)?;
        clients.push(client);
    }
    for (vf, client) in (0_u32..).zip(&mut clients) {
        let mut read = [0; 4];
        client
            .region_read(vfio::region::BAR0, 0, &mut read)
            .during(&format!("reading VF {vf}"))?;
        if u32::from_le_bytes(read) != vf {
            let found = format!("{read:02x?} came back for {vf}");
            return Err(BenchError::new("reading what was written to a VF", found));
        }
    }
    Ok(clients)
}
