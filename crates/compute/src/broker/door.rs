//! The socket of a restricted host's device: the broker listens there and hands the clients over. Their data never passes here.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hdv_control::{ControlError, ControlServer, PeerCredentials, SocketClaim};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::process::geteuid;
use uuid::Uuid;

use super::{Shared, refused};
use crate::error::codes;
use crate::host_commands::value;
use crate::protocol::{Instance, device};

/// How long the host may take to take a client in. Meanwhile the next one waits.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the listener is left alone after an error such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket, until it is dropped.
pub(super) struct Door {
    path: PathBuf,
    listener: Arc<UnixListener>,
    /// Makes the thread end.
    stop: Arc<OwnedFd>,
    /// Until the door is dropped.
    claim: Option<SocketClaim>,
    /// Where the socket is noted, for whoever clears up should this process be killed.
    notes: Option<Weak<ControlServer>>,
}

impl Door {
    /// Listens; nobody is let in before [`Door::open`].
    ///
    /// # Errors
    /// The socket cannot be had.
    pub(super) fn new(
        path: &Path,
        notes: Option<&Weak<ControlServer>>,
    ) -> Result<Arc<Self>, ControlError> {
        let (listener, claim) =
            SocketClaim::bind(path).map_err(|error| refused(codes::E_FAIL, error.to_string()))?;
        let failed = |error: io::Error| refused(codes::E_FAIL, error.to_string());
        listener.set_nonblocking(true).map_err(failed)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let door = Self {
            path: path.to_owned(),
            listener: Arc::new(listener),
            stop: Arc::new(stop),
            claim: Some(claim),
            notes: notes.cloned(),
        };
        if let Some(notes) = door.notes()
            && let Err(error) = notes.note_sockets([path])
        {
            tracing::warn!("a socket cannot be noted in the runtime directory: {error}");
        }
        Ok(Arc::new(door))
    }

    fn notes(&self) -> Option<Arc<ControlServer>> {
        self.notes.as_ref()?.upgrade()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets clients in, on a thread that ends with the door.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub(super) fn open(&self, shared: &Arc<Shared>, instance: Uuid) -> Result<(), ControlError> {
        let clients = Clients {
            listener: Arc::clone(&self.listener),
            stop: Arc::clone(&self.stop),
            shared: Arc::clone(shared),
            instance,
        };
        std::thread::Builder::new()
            .name("hdv-broker".to_owned())
            .spawn(move || clients.run())
            .map(drop)
            .map_err(|error| refused(codes::E_FAIL, error.to_string()))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Nobody waits for the thread, which may be waiting for the host.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        // The socket goes before its note.
        drop(self.claim.take());
        if let Some(notes) = self.notes()
            && let Err(error) = notes.forget_sockets([&self.path])
        {
            tracing::warn!("a socket's note in the runtime directory stays: {error}");
        }
    }
}

/// What the thread has.
struct Clients {
    listener: Arc<UnixListener>,
    stop: Arc<OwnedFd>,
    shared: Arc<Shared>,
    instance: Uuid,
}

impl Clients {
    fn run(self) {
        while self.wait() {
            match self.listener.accept() {
                Ok((client, _)) => self.hand_over(&client),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    tracing::warn!(device = %self.instance, "accepting a client: {error}; trying on");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Waits for a client; false at the end.
    fn wait(&self) -> bool {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Err(errno) => {
                    tracing::warn!(device = %self.instance, "waiting for clients: {errno}; trying on");
                    std::thread::sleep(PAUSE);
                }
                Ok(_) => return fds[0].revents().is_empty(),
            }
        }
    }

    fn hand_over(&self, client: &UnixStream) {
        let device = self.instance;
        let ours = geteuid().as_raw();
        match PeerCredentials::of(client) {
            Ok(peer) if peer.uid == ours || peer.uid == 0 => {}
            Ok(peer) => {
                tracing::warn!(%device, uid = peer.uid, "a client of another user was turned away");
                return;
            }
            Err(error) => {
                tracing::warn!(%device, "a client was turned away: {error}");
                return;
            }
        }
        let instance = Instance {
            instance_id: device,
        };
        let Some(host) = self.shared.host.get() else {
            return;
        };
        let handed = value(&instance)
            .map_err(hdv_control::CallError::from)
            .and_then(|args| {
                host.call_with(device::CONNECT, &args, &[client.as_fd()], CONNECT_LIMIT)
            });
        match handed {
            Ok(_) => tracing::info!(%device, "a client was handed over"),
            Err(error) => {
                let error = self.shared.not_done(device::CONNECT, error);
                tracing::warn!(%device, "a client was not handed over: {error}");
            }
        }
    }
}
