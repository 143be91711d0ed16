//! The thread of one connection: lets QEMU in, hands the connection over, waits until the host lets go of it or QEMU
//! leaves, and answers from then on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use hdv_control::PeerCredentials;
use hdv_vfio_user::server::{Ledger, Left, StandIn};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::geteuid;
use uuid::Uuid;

use super::super::hosts::Host;

/// How long a host may take to take a client in. QEMU waits meanwhile.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long everything is left alone after an error such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// What the thread has.
pub(super) struct Keeper {
    /// QEMU's name for the device.
    pub(super) name: String,
    /// What people call it.
    pub(super) key: String,
    pub(super) instance: Uuid,
}

/// What stays here of a connection that was handed over.
struct Kept {
    connection: UnixStream,
    /// Hangs up when the host has let go.
    lease: OwnedFd,
    ledger: OwnedFd,
}

impl Keeper {
    /// Its whole life, of which `stop` ends the part before QEMU has connected. `has_come` is called when it has, and
    /// says whether it may.
    pub(super) fn run(
        self,
        stop: Arc<OwnedFd>,
        listener: UnixListener,
        host: Arc<Host>,
        has_come: impl FnOnce() -> bool,
    ) {
        let Some(client) = self.accept(&stop, &listener) else {
            return;
        };
        if !has_come() {
            return;
        }
        drop(listener);
        drop(stop);
        let handed = self.hand_over(client, &host);
        drop(host);
        match handed {
            Ok(Some(kept)) => self.keep(kept),
            Ok(None) => {}
            Err(error) => tracing::warn!(device = self.key, "QEMU's connection: {error}"),
        }
    }

    /// Waits for QEMU; `None` if it is not to come any more.
    fn accept(&self, stop: &OwnedFd, listener: &UnixListener) -> Option<UnixStream> {
        loop {
            let fds = [
                (stop.as_fd(), PollFlags::IN),
                (listener.as_fd(), PollFlags::IN),
            ];
            let [is_stopped, _] = wait(fds);
            if is_stopped {
                return None;
            }
            match listener.accept() {
                Ok((client, _)) if self.is_ours(&client) => return Some(client),
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    tracing::warn!(device = self.key, "letting QEMU in: {error}; trying on");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn is_ours(&self, client: &UnixStream) -> bool {
        let device = &self.key;
        match PeerCredentials::of(client) {
            Ok(peer) if peer.uid == geteuid().as_raw() || peer.uid == 0 => true,
            Ok(peer) => {
                tracing::warn!(
                    device,
                    uid = peer.uid,
                    "a client of another user was turned away"
                );
                false
            }
            Err(error) => {
                tracing::warn!(device, "a client was turned away: {error}");
                false
            }
        }
    }

    /// `None` if the host does not take it: it is closed then.
    fn hand_over(&self, connection: UnixStream, host: &Host) -> io::Result<Option<Kept>> {
        let (lease, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let ledger = Ledger::file()?;
        let descriptors = [connection.as_fd(), theirs.as_fd(), ledger.as_fd()];
        let key = &self.key;
        let taken = host.connect(self.instance, key, &descriptors, CONNECT_LIMIT);
        drop(theirs);
        if let Err(error) = taken
            && !Left::read(ledger.as_fd())?.is_agreed()
        {
            tracing::warn!(device = key, "QEMU was not let in: {error}");
            // Whoever has a duplicate.
            connection.shutdown(std::net::Shutdown::Both)?;
            return Ok(None);
        }
        tracing::info!(device = key, name = self.name, "QEMU is connected to it");
        Ok(Some(Kept {
            connection,
            lease,
            ledger,
        }))
    }

    /// Waits for the end of the host's part or of all, and does the rest.
    fn keep(&self, kept: Kept) {
        let Kept {
            connection,
            lease,
            ledger,
        } = kept;
        let fds = [
            (connection.as_fd(), PollFlags::RDHUP),
            (lease.as_fd(), PollFlags::empty()),
        ];
        let [has_left, _] = wait(fds);
        drop(lease);
        if has_left {
            return;
        }
        let (device, name) = (&self.key, &self.name);
        let left = Left::read(ledger.as_fd());
        drop(ledger);
        let left = match left {
            Ok(left) if left.is_agreed() => left,
            left => {
                let error = left.err();
                tracing::warn!(
                    device,
                    name,
                    ?error,
                    "its host let go of it before QEMU had it"
                );
                // QEMU is told so by the end of the connection, whoever else has it.
                let _ = connection.shutdown(std::net::Shutdown::Both);
                return;
            }
        };
        tracing::warn!(
            device,
            name,
            "its host has let go of QEMU's connection: it answers nothing from now on"
        );
        if let Err(error) = StandIn::run(connection, left) {
            tracing::warn!(device, name, "QEMU's connection has ended: {error}");
        }
    }
}

/// Waits until something happens to one of them; which.
fn wait<const N: usize>(of: [(BorrowedFd<'_>, PollFlags); N]) -> [bool; N] {
    loop {
        let mut fds = of.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags));
        match poll(&mut fds, None) {
            Ok(_) => return fds.map(|fd| !fd.revents().is_empty()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                tracing::warn!("waiting for a connection: {errno}; trying on");
                std::thread::sleep(PAUSE);
            }
        }
    }
}
