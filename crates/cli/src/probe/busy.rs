//! Who has a device that refused us with EBUSY.

use std::os::unix::net::UnixStream;
use std::path::Path;

use hdv_control::PeerCredentials;

use crate::{ls, process};

/// What to tell a person. Hosts of OpenHDV know their client; of another server only its own
/// process can be told.
pub(super) fn explain(socket: &Path, client: Option<u32>) -> String {
    let path = socket.display();
    if let Some(pid) = client {
        let client = process::describe(pid);
        return format!(
            "{path} is in use by {client}; a device has one client at a time: try again when it has ended"
        );
    }
    let server = UnixStream::connect(socket)
        .and_then(PeerCredentials::of)
        .ok()
        .and_then(|peer| peer.pid)
        .map_or_else(|| "another process".to_owned(), process::describe);
    format!(
        "{path} is in use: {server}, which serves it, has another client; try again when that has ended"
    )
}

/// The client of a device of one of this user's hosts.
pub(super) fn client_of(socket: &Path) -> Option<u32> {
    let wanted = socket.canonicalize().ok()?;
    let hosts = ls::hosts().ok()?;
    let mut devices = hosts.into_iter().flat_map(|host| host.devices);
    let device = devices.find(|device| {
        device
            .socket
            .canonicalize()
            .is_ok_and(|path| path == wanted)
    })?;
    device.client?.pid
}
