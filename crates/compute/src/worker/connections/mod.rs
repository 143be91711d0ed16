//! QEMU's connections to devices. The worker takes each in, hands it to the device's host and keeps a duplicate. When the
//! host lets go of it, most likely since its process has ended, the worker itself answers there (`keeper`): a QEMU whose
//! connection closes aborts at its next change of memory, also for a device that its guest has long let go of.
//!
//! Here is where QEMU is awaited.

mod keeper;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::claim::Claimed;
use super::refusal::{Result, refused};
use super::worker::Worker;
use crate::error::codes;
use keeper::Keeper;

/// The devices to which QEMU has not connected yet, by its name for them.
#[derive(Debug, Default)]
pub(super) struct Connections {
    awaited: Mutex<BTreeMap<String, Awaited>>,
}

/// A connection that has not come. Whoever takes it out of the list removes its socket.
#[derive(Debug)]
struct Awaited {
    socket: PathBuf,
    /// Makes the thread that waits end.
    stop: Arc<OwnedFd>,
}

impl Connections {
    fn awaited(&self) -> MutexGuard<'_, BTreeMap<String, Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// QEMU has connected, and nobody else is let in; false if nobody was to be any more.
    fn has_come(&self, name: &str) -> bool {
        let awaited = self.awaited().remove(name);
        awaited.is_some_and(|awaited| {
            awaited.remove_socket();
            true
        })
    }

    /// Lets QEMU not connect any more, if it has not.
    pub(super) fn stop_listening(&self, name: &str) {
        let awaited = self.awaited().remove(name);
        if let Some(awaited) = awaited {
            awaited.stop();
        }
    }

    /// The same for all devices.
    pub(super) fn stop_all(&self) {
        let awaited = std::mem::take(&mut *self.awaited());
        for awaited in awaited.into_values() {
            awaited.stop();
        }
    }
}

impl Awaited {
    fn remove_socket(&self) {
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(socket = %self.socket.display(), "a socket cannot be removed: {error}");
        }
    }

    fn stop(self) {
        self.remove_socket();
        // Full means that it is readable already.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }
}

impl Worker {
    /// Powers a device on and awaits QEMU's connection to it. [`Worker::tear_down`] undoes it.
    pub(super) fn make_ready(self: &Arc<Self>, claimed: &Claimed) -> Result<()> {
        let socket = self.device_socket(&claimed.plug.name);
        claimed.device.power_on(&socket, &claimed.configuration)?;
        let key = &claimed.device.key;
        self.listen(claimed, socket).map_err(|error| {
            refused(
                codes::E_FAIL,
                format!("QEMU cannot be let in to device {key:?}: {error}"),
            )
        })
    }

    fn listen(self: &Arc<Self>, claimed: &Claimed, socket: PathBuf) -> std::io::Result<()> {
        let name = claimed.plug.name.clone();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop = Arc::new(eventfd(0, flags)?);
        let listener = UnixListener::bind(&socket)?;
        let awaited = Awaited {
            socket,
            stop: Arc::clone(&stop),
        };
        listener
            .set_nonblocking(true)
            .inspect_err(|_| awaited.remove_socket())?;
        self.connections.awaited().insert(name.clone(), awaited);
        let keeper = Keeper {
            name: name.clone(),
            key: claimed.device.key.clone(),
            instance: claimed.device.instance,
        };
        let (worker, host) = (Arc::downgrade(self), Arc::clone(&claimed.device.host));
        let has_come = {
            let name = name.clone();
            move || {
                let worker = worker.upgrade();
                worker.is_some_and(|worker| worker.connections.has_come(&name))
            }
        };
        let started = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || keeper.run(stop, listener, host, has_come));
        if started.is_err() {
            self.connections.stop_listening(&name);
        }
        started.map(drop)
    }
}
