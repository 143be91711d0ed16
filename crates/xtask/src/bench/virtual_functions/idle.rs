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

/// What a process with a PF takes.
struct Taken {
    /// While nobody has used a VF.
    enabled: Memory,
    /// Once each VF has a client.
    connected: Memory,
}

impl Taken {
    fn with(vfs: u16) -> Result<Self, BenchError> {
        let peer = Peer::start(Role::VirtualFunctions { count: vfs }, None, None)?;
        let enabled = Memory::of(peer.pid())?;
        // Kept until what they cost was read.
        let clients = connect(&peer, vfs)?;
        let connected = Memory::of(peer.pid())?;
        drop(clients);
        Ok(Self { enabled, connected })
    }
}

/// Measures one VF and many. What the first one brings with it, such as code that is used for the first time, counts
/// for none of the others.
pub(in crate::bench) fn measure() -> Result<Section, BenchError> {
    let (one, many) = (Taken::with(1)?, Taken::with(TOTAL_VFS)?);
    let mut section = Section::new(
        format!("memory of {TOTAL_VFS} VFs in one process"),
        Unit::Bytes,
    );
    section.value("a PF with one VF, RSS", one.enabled.resident, None);
    for (name, one, many) in [
        ("enabled, never used", one.enabled, many.enabled),
        ("connected and idle", one.connected, many.connected),
    ] {
        let each = |part: fn(&Memory) -> f64| (part(&many) - part(&one)) / f64::from(TOTAL_VFS - 1);
        let resident = each(|memory| memory.resident);
        let proportional = each(|memory| memory.proportional);
        let kernel = each(|memory| memory.kernel);
        section
            .value(format!("{name}: each, RSS"), resident, Some(TARGET))
            .value(format!("{name}: each, PSS"), proportional, Some(TARGET))
            .value(
                format!("{name}: each, kernel stacks and page tables"),
                kernel,
                None,
            );
    }
    Ok(section)
}

/// A client of each VF, which has answered it.
fn connect(peer: &Peer, vfs: u16) -> Result<Vec<Client>, BenchError> {
    let mut clients = Vec::with_capacity(vfs.into());
    for vf in 0..vfs {
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
