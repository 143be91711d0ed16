//! The thread of one connected client.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hdv_vfio_user::server::{Handshake, Session};
use rustix::io::Errno;

use super::Shared;
use super::endpoint::{Connected, Endpoint, Occupancy};
use super::handed::Kept;
use crate::memory;
use crate::slot::DeviceState;
use crate::vfio_user::{BarAccesses, SessionBackend};

/// Gives `endpoint`'s device to the client of `handshake`, whose VERSION has arrived.
pub(super) fn start(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    handshake: Handshake,
    socket: OwnedFd,
    kept: Kept,
) -> io::Result<()> {
    let accesses = Arc::<BarAccesses>::default();
    *endpoint.occupancy() = Occupancy::Taken(Connected {
        socket,
        pid: handshake.peer_pid(),
        statistics: None,
        accesses: Arc::clone(&accesses),
    });
    // A thread's name holds no NUL, which a device's may.
    let name = format!("hdv-{}", endpoint.slot().name().replace('\0', ""));
    // Nobody waits for it: when its device is gone it serves a stub, for as long as its client stays.
    std::thread::Builder::new()
        .name(name)
        .spawn({
            let (shared, endpoint) = (Arc::clone(shared), Arc::clone(endpoint));
            move || run(&shared, &endpoint, handshake, accesses, kept)
        })
        .inspect_err(|_| *endpoint.occupancy() = Occupancy::Free)?;
    Ok(())
}

fn run(
    shared: &Shared,
    endpoint: &Endpoint,
    handshake: Handshake,
    accesses: Arc<BarAccesses>,
    kept: Kept,
) {
    let Kept { lease, ledger } = kept;
    // It accesses sections that another thread has mapped.
    memory::let_through();
    let mut leaving = Leaving {
        shared,
        endpoint,
        lease,
    };
    let name = endpoint.slot().name();
    // After the guard, so that it is gone before: its end has closed the connection in any case.
    if let Some(mut session) = begin(endpoint, handshake) {
        if let Some(ledger) = ledger {
            session.keep_ledger(ledger);
        }
        let mut backend = SessionBackend::new(Arc::clone(endpoint.slot()), accesses);
        match session.run(&mut backend) {
            Ok(()) => {
                // The connection is closed: nobody goes on with it.
                drop(leaving.lease.take());
                tracing::info!(device = name, "the client left");
            }
            Err(error) => tracing::warn!(device = name, "the client was disconnected: {error}"),
        }
    }
    drop(leaving);
}

/// Powers the device on, if this is its first client, and answers VERSION. `None` if the connection has
/// been closed instead.
fn begin(endpoint: &Endpoint, handshake: Handshake) -> Option<Session> {
    let name = endpoint.slot().name();
    if let Err(error) = endpoint.slot().power_on(&[]) {
        tracing::error!(
            device = name,
            "a client was refused, since the device cannot be powered on: {error}"
        );
        handshake.refuse(Errno::IO);
        return None;
    }
    if endpoint.slot().state() == DeviceState::Gone {
        // A stub is for who has used the device: this one may never have been anything.
        tracing::info!(device = name, "a client came as the device went");
        handshake.refuse(Errno::NODEV);
        return None;
    }
    let session = handshake
        .accept()
        .inspect_err(|error| tracing::warn!(device = name, "the session did not begin: {error}"))
        .ok()?;
    if let Occupancy::Taken(connected) = &mut *endpoint.occupancy() {
        connected.statistics = Some(session.statistics());
        tracing::info!(device = name, pid = connected.pid, "a client connected");
    }
    Some(session)
}

/// Frees the device for the next client, also when the session panicked. Until then a client
/// that asks waits: one that saw its connection end may be back at once.
struct Leaving<'a> {
    shared: &'a Shared,
    endpoint: &'a Endpoint,
    /// Says by its end that nothing here reads from the connection any more: somebody else does then.
    lease: Option<OwnedFd>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        *self.endpoint.occupancy() = Occupancy::Leaving;
        if let Some(lease) = self.lease.take() {
            // Who goes on tells the client that its memory is its own again.
            self.endpoint.slot().memory().clear();
            // Not after the device, which may take long to stop: the client waits for answers.
            drop(lease);
        }
        self.endpoint.slot().client_left();
        *self.endpoint.occupancy() = Occupancy::Free;
        self.shared.wake.wake();
    }
}
