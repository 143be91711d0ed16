//! Clients that a system hands over, until the accepting thread takes them in.

use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{DeviceId, HostError};

/// Clients of one host that wait for the accepting thread, which is never busy for long.
const MAX_WAITING: usize = 64;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Handed {
    waiting: Mutex<Vec<(DeviceId, UnixStream)>>,
}

impl Handed {
    fn waiting(&self) -> MutexGuard<'_, Vec<(DeviceId, UnixStream)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a client for the accepting thread, which is to be woken.
    ///
    /// # Errors
    /// [`HostError::TooManyClients`].
    pub(super) fn give(&self, id: DeviceId, client: UnixStream) -> Result<(), HostError> {
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            return Err(HostError::TooManyClients {
                waiting: waiting.len(),
            });
        }
        waiting.push((id, client));
        Ok(())
    }

    /// Those that came, in their order.
    pub(super) fn take(&self) -> Vec<(DeviceId, UnixStream)> {
        std::mem::take(&mut self.waiting())
    }
}
