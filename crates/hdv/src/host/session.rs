//! The thread of one connected client.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use hdv_vfio_user::server::{Closer, Session};

use super::Shared;
use super::endpoint::{Connected, Endpoint, Occupancy};
use crate::vfio_user::SessionBackend;

/// A session's thread and how to end it.
pub(super) struct Running {
    closer: Closer,
    thread: JoinHandle<()>,
}

impl Running {
    pub(super) fn finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Disconnects the client and waits until its traces are gone.
    pub(super) fn end(self) {
        self.closer.close();
        // What a device does is caught in its slot; another panic has been printed already.
        let _ = self.thread.join();
    }
}

/// Gives `endpoint`'s device to the client of `session`.
pub(super) fn start(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    session: Session,
    socket: OwnedFd,
    pid: Option<i32>,
) -> io::Result<()> {
    let closer = session.closer();
    *endpoint.occupancy() = Occupancy::Taken(Connected {
        socket,
        pid,
        statistics: session.statistics(),
    });
    let thread = std::thread::Builder::new()
        .name(format!("hdv-{}", endpoint.slot().name()))
        .spawn({
            let (shared, endpoint) = (Arc::clone(shared), Arc::clone(endpoint));
            move || run(&shared, &endpoint, session)
        })
        .inspect_err(|_| *endpoint.occupancy() = Occupancy::Free)?;
    let mut sessions = shared.sessions();
    sessions.retain(|session| !session.finished());
    sessions.push(Running { closer, thread });
    Ok(())
}

fn run(shared: &Shared, endpoint: &Endpoint, mut session: Session) {
    let name = endpoint.slot().name();
    let mut backend = SessionBackend::new(Arc::clone(endpoint.slot()));
    match session.run(&mut backend) {
        Ok(()) => tracing::info!(device = name, "the client left"),
        Err(error) => tracing::warn!(device = name, "the client was disconnected: {error}"),
    }
    *endpoint.occupancy() = Occupancy::Leaving;
    endpoint.slot().client_left();
    // The connection closes only now: a client that sees its end may connect again at once.
    drop(session);
    *endpoint.occupancy() = Occupancy::Free;
    shared.wake.wake();
}
