//! This process's control socket, and the notes of its other sockets. Who answers is in `service`.

use std::collections::HashSet;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use thiserror::Error;

use crate::bind_error::BindError;
use crate::claim::SocketClaim;
use crate::hosts::{HOSTS, SOCKET_SUFFIX};
use crate::numbers::Number;
use crate::registry::Registry;
use crate::runtime_directory::{RuntimeDirectory, RuntimeDirectoryError};
use crate::service::{Service, Wake};

/// The highest number in the name of a control socket that is tried when those before are taken.
const SERVERS_PER_PROCESS: u32 = 1024;

/// A control server that cannot be started.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Directory(#[from] RuntimeDirectoryError),
    /// The socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The thread or its descriptors could not be had.
    #[error("cannot start the control server: {0}")]
    Io(#[from] io::Error),
}

/// This process's control socket `hosts/<pid>.sock`, answered by a thread of its own until it
/// is dropped.
///
/// A process with several has them at `<pid>-1.sock` and so on.
#[derive(Debug)]
pub struct ControlServer {
    claim: Mutex<SocketClaim>,
    /// Those that are noted, in the order in which they were.
    sockets: Mutex<Vec<PathBuf>>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
    /// In the socket's name. After the claim, so that it is free only when that is gone.
    _number: Number,
}

impl ControlServer {
    /// Clears away what dead hosts left, binds this process's socket and starts answering.
    ///
    /// # Errors
    /// The runtime directory, the socket or the thread cannot be had.
    pub fn start(directory: &RuntimeDirectory, registry: Registry) -> Result<Self, ServerError> {
        directory.hosts()?;
        let (listener, claim, number) = bind(&directory.subdirectory(HOSTS)?)?;
        let mut service = Service::new(listener, registry)?;
        let wake = Arc::clone(service.wake());
        let thread = std::thread::Builder::new()
            .name("hdv-control".to_owned())
            .spawn(move || service.run())?;
        Ok(Self {
            claim: Mutex::new(claim),
            sockets: Mutex::default(),
            wake,
            thread: Some(thread),
            _number: number,
        })
    }

    /// The control socket.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        claim.path().to_owned()
    }

    /// Notes that this process has, or is about to have, claimed `sockets` ([`SocketClaim`]), so that the
    /// next OpenHDV process removes them should this one be killed. Many at once are one write. Gives back
    /// those that had not been noted before.
    ///
    /// # Errors
    /// The note could not be written.
    pub fn note_sockets<P: AsRef<Path>>(
        &self,
        sockets: impl IntoIterator<Item = P>,
    ) -> io::Result<Vec<PathBuf>> {
        let mut noted = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known: HashSet<PathBuf> = noted.iter().cloned().collect();
        let mut added = absolute(sockets)?;
        added.retain(|socket| known.insert(socket.clone()));
        if !added.is_empty() {
            // Behind those before: they stay where they are in the file, so that a process that is killed
            // while it writes loses none of them.
            let next = [noted.as_slice(), &added].concat();
            self.write_notes(next, &mut noted)?;
        }
        Ok(added)
    }

    /// Takes back [`Self::note_sockets`].
    ///
    /// # Errors
    /// The note could not be written.
    pub fn forget_sockets<P: AsRef<Path>>(
        &self,
        sockets: impl IntoIterator<Item = P>,
    ) -> io::Result<()> {
        let mut noted = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten: HashSet<PathBuf> = absolute(sockets)?.into_iter().collect();
        let left = noted.iter().filter(|socket| !forgotten.contains(*socket));
        let left: Vec<_> = left.cloned().collect();
        if left.len() < noted.len() {
            self.write_notes(left, &mut noted)?;
        }
        Ok(())
    }

    fn write_notes(&self, next: Vec<PathBuf>, noted: &mut Vec<PathBuf>) -> io::Result<()> {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        claim.set_sockets(next.clone())?;
        *noted = next;
        Ok(())
    }
}

fn absolute<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> io::Result<Vec<PathBuf>> {
    paths.into_iter().map(std::path::absolute).collect()
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.wake.stop();
        if let Some(thread) = self.thread.take() {
            // A command may drop the server; the thread then ends after its answer.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("the control thread panicked");
            }
        }
    }
}

fn bind(directory: &Path) -> Result<(UnixListener, SocketClaim, Number), BindError> {
    let pid = std::process::id();
    let mut first = 0;
    loop {
        let number = Number::take(directory, first);
        let name = match number.get() {
            0 => format!("{pid}{SOCKET_SUFFIX}"),
            further => format!("{pid}-{further}{SOCKET_SUFFIX}"),
        };
        match SocketClaim::bind(&directory.join(name)) {
            // Of a process with the same pid in another namespace.
            Err(BindError::InUse { .. }) if number.get() < SERVERS_PER_PROCESS => {
                first = number.get() + 1;
            }
            Ok((listener, claim)) => return Ok((listener, claim, number)),
            Err(error) => return Err(error),
        }
    }
}
