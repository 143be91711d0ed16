//! The host as the carrier of functions that its functions bring: a socket for each, beside that of the
//! function that brings it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use hdv_control::SocketClaim;

use super::endpoint::{Brought, Endpoint, Source};
use super::{Shared, descriptors};
use crate::brought::{BroughtSlot, into_slots};
use crate::calls::HostToken;
use crate::carrier::{BroughtFunction, FunctionCarrier};
use crate::error::{DeviceId, HostError};
use crate::instance::DeviceInstance;

/// How the name of a socket ends, as a rule.
const SOCKET_SUFFIX: &[u8] = b".sock";

/// Carries what one function of a host brings.
#[derive(Debug)]
pub(super) struct HostCarrier {
    /// Not an owner: the function that holds this lives in the host.
    host: Weak<Shared>,
    token: HostToken,
    /// The function that brings.
    by: DeviceId,
}

impl HostCarrier {
    pub(super) fn new(host: &Arc<Shared>, by: DeviceId) -> Self {
        Self {
            host: Arc::downgrade(host),
            token: host.token,
            by,
        }
    }

    /// Serves what came, if all of it can be.
    fn serve(
        &self,
        host: &Shared,
        slots: &[BroughtSlot],
        sockets: &[PathBuf],
    ) -> Result<Vec<DeviceInstance>, HostError> {
        let mut endpoints = Vec::with_capacity(slots.len());
        for (one, socket) in slots.iter().zip(sockets) {
            let (listener, claim) =
                SocketClaim::bind(socket).map_err(|error| HostError::brought(one.vf, error))?;
            listener.set_nonblocking(true).map_err(|error| {
                let error = HostError::system("making the socket non-blocking", error);
                HostError::brought(one.vf, error)
            })?;
            let brought = Brought {
                by: self.by,
                vf: one.vf,
                identity: one.identity,
            };
            let (id, slot) = (DeviceId::next(), Arc::clone(&one.slot));
            let source = Source::Socket(Arc::new(listener), claim);
            let endpoint = Endpoint::new(id, None, Some(brought), slot, source);
            endpoints.push(Arc::new(endpoint));
        }
        host.endpoints().add_brought(self.by, &endpoints)?;
        Ok(endpoints
            .iter()
            .map(|endpoint| endpoint.instance())
            .collect())
    }
}

impl FunctionCarrier for HostCarrier {
    fn bring(&self, functions: Vec<BroughtFunction>) -> Result<Vec<DeviceInstance>, HostError> {
        let host = self.host.upgrade();
        let bringing = host
            .as_ref()
            .ok_or(HostError::Closed)
            .and_then(|host| host.endpoints().bringing(self.by).cloned());
        let name = match &bringing {
            Ok(bringing) => bringing.slot().name(),
            Err(_) => "",
        };
        let slots = into_slots(functions, name, self.token);
        let (host, bringing) = match (host, bringing) {
            (Some(host), Ok(bringing)) => (host, bringing),
            (_, Err(error)) => return Err(error),
            (None, _) => return Err(HostError::Closed),
        };
        let slots = slots?;
        for one in &slots {
            host.limit_doorbells(&one.slot);
        }
        descriptors::check_room(slots.len())?;
        let beside = bringing.beside().ok_or(HostError::NoPlaceFor(self.by))?;
        let sockets: Vec<_> = slots.iter().map(|one| socket_of(beside, one.vf)).collect();
        // Before there is a socket, so that none is left behind whenever this process is killed.
        let noted = host.notes.note(&sockets)?;
        self.serve(&host, &slots, &sockets)
            .inspect_err(|_| host.notes.forget(&noted))
    }

    fn take_away(&self, functions: &[DeviceInstance]) {
        let ours = |instance: &&DeviceInstance| instance.brought_by == Some(self.by);
        let ours = functions.iter().filter(ours);
        if let Some(host) = self.host.upgrade() {
            let ids = ours.clone().map(DeviceInstance::id);
            let endpoints = host.endpoints().take_brought(self.by, ids);
            host.close_sources(&endpoints);
        }
        // Also what was taken out by somebody else, who may not be through.
        for instance in ours {
            instance.slot.remove();
        }
    }
}

/// The socket of what a function brings, beside its own: `/x/nic.sock` gives `/x/nic-vf0.sock`.
fn socket_of(bringing: &Path, vf: u16) -> PathBuf {
    let path = bringing.as_os_str().as_bytes();
    let stem = path.strip_suffix(SOCKET_SUFFIX).unwrap_or(path);
    let mut socket = OsString::from(std::ffi::OsStr::from_bytes(stem));
    socket.push(format!("-vf{vf}.sock"));
    socket.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_beside_that_of_the_bringing_function() {
        let of = |path: &str, vf| socket_of(Path::new(path), vf);
        assert_eq!(of("/x/nic.sock", 0), Path::new("/x/nic-vf0.sock"));
        assert_eq!(of("/x/nic", 12), Path::new("/x/nic-vf12.sock"));
        assert_eq!(of("/x.sock/nic.s", 7), Path::new("/x.sock/nic.s-vf7.sock"));
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"/\xff.sock"));
        let socket = socket_of(odd, u16::MAX);
        assert_eq!(socket.as_os_str().as_bytes(), b"/\xff-vf65535.sock");
    }
}
