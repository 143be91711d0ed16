//! The control socket of a host: the commands by which other programs of the user find its devices, and
//! the notes of its sockets, by which they clear away what is left of it should it be killed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hdv_control::{ControlServer, Registry, RuntimeDirectory};

use super::{Shared, status};
use crate::error::HostError;

/// Opens the control socket, with the commands of this crate.
pub(super) fn start(shared: &Arc<Shared>) -> Result<(ControlServer, Registry), HostError> {
    fn failed(error: impl std::error::Error + Send + Sync + 'static) -> HostError {
        HostError::Control(Box::new(error))
    }
    let registry = Registry::new();
    // Not an owner: the server lives in the host that owns `shared`.
    let weak = Arc::downgrade(shared);
    registry
        .register("list", move |_| {
            let devices = weak
                .upgrade()
                .map(|shared| status::devices(&shared))
                .unwrap_or_default();
            serde_json::to_value(devices)
                .map_err(|error| hdv_control::ControlError::internal(error.to_string()))
        })
        .map_err(failed)?;
    let directory = RuntimeDirectory::locate().map_err(failed)?;
    let server = ControlServer::start(&directory, registry.clone()).map_err(failed)?;
    Ok((server, registry))
}

/// Notes a host's sockets at its control server, if it has one.
#[derive(Default)]
pub(super) struct Notes {
    /// In use elsewhere while a note is written.
    server: Mutex<Option<Arc<ControlServer>>>,
}

impl Notes {
    /// Replaces the server; `None` ends it.
    pub(super) fn set_server(&self, server: Option<ControlServer>) {
        let old = {
            let mut current = self.server.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, server.map(Arc::new))
        };
        // Without the lock: it waits for the command that is being answered.
        drop(old);
    }

    fn server(&self) -> Option<Arc<ControlServer>> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.clone()
    }

    /// Notes sockets that are about to be bound; gives back those that had not been noted.
    pub(super) fn note<P: AsRef<Path>>(&self, sockets: &[P]) -> Result<Vec<PathBuf>, HostError> {
        let Some(server) = self.server() else {
            return Ok(Vec::new());
        };
        server
            .note_sockets(sockets)
            .map_err(|e| HostError::system("noting a socket in the runtime directory", e))
    }

    /// Takes notes back.
    pub(super) fn forget<P: AsRef<Path>>(&self, sockets: &[P]) {
        if let Some(server) = self.server()
            && let Err(error) = server.forget_sockets(sockets)
        {
            tracing::warn!("a socket's note in the runtime directory stays: {error}");
        }
    }
}
