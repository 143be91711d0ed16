//! Clients that a system hands over, until the accepting thread takes them in.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdv_vfio_user::server::Ledger;

use crate::error::{DeviceId, HostError};
use crate::system::HandedClient;

/// Clients of one host that wait for the accepting thread, which is never busy for long.
const MAX_WAITING: usize = 64;

/// A connection whose client has not been answered yet, and what its system wants to be kept with it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: UnixStream,
    pub(super) kept: Kept,
}

/// What is kept with a connection for the system that has handed it over.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Closed last.
    pub(super) lease: Option<OwnedFd>,
    pub(super) ledger: Option<Ledger>,
}

impl Client {
    /// # Errors
    /// The ledger is none.
    pub(super) fn of(handed: HandedClient) -> Result<Self, HostError> {
        let ledger = handed.ledger.map(Ledger::open).transpose();
        let ledger = ledger.map_err(|error| HostError::system("opening a ledger", error))?;
        let lease = handed.lease;
        Ok(Self {
            socket: handed.socket,
            kept: Kept { lease, ledger },
        })
    }
}

impl From<UnixStream> for Client {
    fn from(socket: UnixStream) -> Self {
        Self {
            socket,
            kept: Kept::default(),
        }
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Handed {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<(DeviceId, Client)>,
    /// Nobody takes them in any more.
    closed: bool,
}

impl Handed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a client for the accepting thread, which is to be woken.
    ///
    /// # Errors
    /// [`HostError::TooManyClients`], [`HostError::Closed`].
    pub(super) fn give(&self, id: DeviceId, client: Client) -> Result<(), HostError> {
        let mut state = self.state();
        if state.closed {
            return Err(HostError::Closed);
        }
        let waiting = state.waiting.len();
        if waiting >= MAX_WAITING {
            return Err(HostError::TooManyClients { waiting });
        }
        state.waiting.push((id, client));
        Ok(())
    }

    /// Those that came, in their order.
    pub(super) fn take(&self) -> Vec<(DeviceId, Client)> {
        std::mem::take(&mut self.state().waiting)
    }

    /// The accepting thread has ended: those that wait are turned away, and so is who comes.
    pub(super) fn close(&self) {
        self.state().closed = true;
        drop(self.take());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_host_that_is_closed() {
        let handed = Handed::default();
        let [(mut one, theirs), (_, late)] = [(); 2].map(|()| UnixStream::pair().unwrap());
        handed.give(DeviceId(1), theirs.into()).unwrap();
        handed.close();
        assert_eq!(std::io::Read::read(&mut one, &mut [0]).unwrap(), 0);
        assert!(matches!(
            handed.give(DeviceId(1), late.into()),
            Err(HostError::Closed)
        ));
        assert!(handed.take().is_empty());
    }
}
