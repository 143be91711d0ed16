//! Who has a device that refused us with EBUSY.

use std::path::Path;

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
    format!(
        "{path} is in use: {}, which serves it, has another client; try again when that has ended",
        process::server_of(socket)
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
