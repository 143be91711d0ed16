//! Clients that a system hands over, until the accepting thread takes them in.

use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{DeviceId, HostError};

/// Clients of one host that wait for the accepting thread, which is never busy for long.
const MAX_WAITING: usize = 64;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Handed {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<(DeviceId, UnixStream)>,
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
    pub(super) fn give(&self, id: DeviceId, client: UnixStream) -> Result<(), HostError> {
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
    pub(super) fn take(&self) -> Vec<(DeviceId, UnixStream)> {
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
        handed.give(DeviceId(1), theirs).unwrap();
        handed.close();
        assert_eq!(std::io::Read::read(&mut one, &mut [0]).unwrap(), 0);
        assert!(matches!(
            handed.give(DeviceId(1), late),
            Err(HostError::Closed)
        ));
        assert!(handed.take().is_empty());
    }
}
