//! The thread of one connected client.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hdv_vfio_user::server::Session;

use super::Shared;
use super::endpoint::{Connected, Endpoint, Occupancy};
use crate::memory;
use crate::vfio_user::{BarAccesses, SessionBackend};

/// Gives `endpoint`'s device to the client of `session`.
pub(super) fn start(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    session: Session,
    socket: OwnedFd,
    pid: Option<i32>,
) -> io::Result<()> {
    let accesses = Arc::<BarAccesses>::default();
    *endpoint.occupancy() = Occupancy::Taken(Connected {
        socket,
        pid,
        statistics: session.statistics(),
        accesses: Arc::clone(&accesses),
    });
    // A thread's name holds no NUL, which a device's may.
    let name = format!("hdv-{}", endpoint.slot().name().replace('\0', ""));
    // Nobody waits for it: when its device is gone it serves a stub, for as long as its client stays.
    std::thread::Builder::new()
        .name(name)
        .spawn({
            let (shared, endpoint) = (Arc::clone(shared), Arc::clone(endpoint));
            move || run(&shared, &endpoint, session, accesses)
        })
        .inspect_err(|_| *endpoint.occupancy() = Occupancy::Free)?;
    Ok(())
}

fn run(shared: &Shared, endpoint: &Endpoint, session: Session, accesses: Arc<BarAccesses>) {
    // It accesses sections that another thread has mapped.
    memory::let_through();
    let leaving = Leaving { shared, endpoint };
    // After the guard, so that it is gone before: its end has closed the connection in any case.
    let mut session = session;
    let name = endpoint.slot().name();
    let mut backend = SessionBackend::new(Arc::clone(endpoint.slot()), accesses);
    match session.run(&mut backend) {
        Ok(()) => tracing::info!(device = name, "the client left"),
        Err(error) => tracing::warn!(device = name, "the client was disconnected: {error}"),
    }
    drop(session);
    drop(leaving);
}

/// Frees the device for the next client, also when the session panicked. Until then a client
/// that asks waits: one that saw its connection end may be back at once.
struct Leaving<'a> {
    shared: &'a Shared,
    endpoint: &'a Endpoint,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        *self.endpoint.occupancy() = Occupancy::Leaving;
        self.endpoint.slot().client_left();
        *self.endpoint.occupancy() = Occupancy::Free;
        self.shared.wake.wake();
    }
}
