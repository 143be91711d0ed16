//! Claiming a path for a listening socket, and a directory beside it: a stale one is replaced, a live one refused. What a
//! dead process left is cleared away by `clear`.
//!
//! What is served on the socket is the caller's business.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, Mode, fchmod, mkdirat, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::{Pid, test_kill_process};

use crate::bind_error::{BindError, SOCKET_PATH_LIMIT};
use crate::clear::{remove_directory, remove_noted};
use crate::lock::{CompanionLock, FileId, LockError, Owner};
use crate::peer::PeerCredentials;

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;
/// How long a held lock may turn out to be only that of a process that looks for dead ones.
const LOOKER_PATIENCE: Duration = Duration::from_millis(200);
/// How long a lock may be held in the name of a process that has ended: by somebody who removes what it left.
const CLEARER_PATIENCE: Duration = Duration::from_secs(10);
/// How long to pause between two looks at a held lock.
const LOOKER_PAUSE: Duration = Duration::from_millis(5);

/// A socket path that is this process's until the claim is dropped.
///
/// A companion file `<path>.hdv-lock` carries the lock that tells a living owner from a dead
/// one. Dropping the claim removes the socket, if it is still the one that was bound, and the
/// companion; what SIGKILL leaves behind is replaced by the next claim on the path.
#[derive(Debug)]
pub struct SocketClaim {
    path: PathBuf,
    id: FileId,
    owner: Owner,
    // Taken out on drop only.
    lock: Option<CompanionLock>,
}

/// What is found at a socket's path.
pub(crate) enum Found {
    Nothing,
    Stale,
    Live(Option<u32>),
    NotASocket,
}

impl SocketClaim {
    /// Binds and listens on `path`, with mode 0600.
    ///
    /// A socket that nobody listens on is replaced. Of several processes that do this at once
    /// exactly one wins.
    ///
    /// # Errors
    /// The path is too long, taken by a living process or by something that is not a socket,
    /// or the kernel refused.
    pub fn bind(path: &Path) -> Result<(UnixListener, Self), BindError> {
        Self::bind_as(path, None)
    }

    /// As [`bind`](Self::bind), for a path that ends in `.sock`, and makes an empty directory, with mode 0700, at the path
    /// without that ending. The directory goes with the claim, whatever is in it then; where the process is killed, with the
    /// socket: what else is there of that name is removed at the next claim.
    ///
    /// # Errors
    /// As there, and the directory cannot be made.
    pub fn bind_with_directory(path: &Path) -> Result<(UnixListener, Self), BindError> {
        let directory =
            CompanionLock::directory_for(path).ok_or_else(|| BindError::NoFileName {
                path: path.to_owned(),
            })?;
        Self::bind_as(path, Some(&directory))
    }

    fn bind_as(path: &Path, directory: Option<&Path>) -> Result<(UnixListener, Self), BindError> {
        let failed = |action, errno: Errno| BindError::Io {
            action,
            path: path.to_owned(),
            source: errno.into(),
        };
        // Checked as given: a relative path may be short where its absolute form is not.
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_LIMIT {
            return Err(BindError::PathTooLong {
                path: path.to_owned(),
                length,
            });
        }
        // An empty path would bind a name of the kernel's choice.
        if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(BindError::NoFileName {
                path: path.to_owned(),
            });
        }
        let mut lock = take_patiently(path)?;
        let left = lock.read().unwrap_or_default();

        let refused = match look(path) {
            Ok(Found::Nothing) => None,
            Ok(Found::Stale) => {
                tracing::info!(path = %path.display(), "replacing a stale socket");
                unlinkat(CWD, path, AtFlags::empty())
                    .err()
                    .map(|errno| failed("remove the stale socket", errno))
            }
            Ok(Found::Live(pid)) => Some(BindError::InUse {
                path: path.to_owned(),
                pid,
            }),
            Ok(Found::NotASocket) => Some(BindError::NotASocket {
                path: path.to_owned(),
            }),
            Err(errno) => Some(failed("look at the socket", errno)),
        };
        if let Some(error) = refused {
            lock.remove();
            return Err(error);
        }

        let owner = Owner {
            pid: Some(std::process::id()),
            directory: directory.is_some(),
            sockets: Vec::new(),
        };
        // Noted before it is made: whoever is killed in between leaves what the next one finds.
        let bound = (|| {
            remove_noted(&left);
            if left.directory || directory.is_some() {
                remove_directory(path)?;
            }
            lock.write(&owner).map_err(|source| BindError::Io {
                action: "write the lock file of",
                path: path.to_owned(),
                source,
            })?;
            if let Some(directory) = directory {
                mkdirat(CWD, directory, Mode::RWXU).map_err(|errno| BindError::Io {
                    action: "make the directory",
                    path: directory.to_owned(),
                    source: errno.into(),
                })?;
            }
            bind_private(path).map_err(|errno| failed("bind the socket", errno))
        })();
        let (listener, id) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                if owner.directory && remove_directory(path).is_err() {
                    // The companion stays, so that a later try finds the directory again.
                    return Err(error);
                }
                lock.remove();
                return Err(error);
            }
        };
        // Absolute, because the process may change its directory before it drops the claim.
        let claim = Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            id,
            owner,
            lock: Some(lock),
        };
        Ok((listener, claim))
    }

    /// The claimed path, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that was made with it, absolute; `None` if there is none.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        self.owner
            .directory
            .then(|| CompanionLock::directory_for(&self.path))?
    }

    /// Notes in the companion file which further sockets this process claims, in place of those noted before: who clears
    /// away what it left, if it is killed, clears these away too. It may be about to claim them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_sockets(&mut self, sockets: Vec<PathBuf>) -> io::Result<()> {
        self.owner.sockets = sockets;
        match &mut self.lock {
            Some(lock) => lock.write(&self.owner),
            None => Ok(()),
        }
    }
}

impl Drop for SocketClaim {
    fn drop(&mut self) {
        match statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileId::of(&stat) == self.id => {
                if let Err(errno) = unlinkat(CWD, &self.path, AtFlags::empty()) {
                    tracing::warn!(path = %self.path.display(), %errno, "cannot remove a socket");
                }
            }
            Ok(_) => tracing::warn!(
                path = %self.path.display(),
                "the socket was replaced by somebody else; it is left alone"
            ),
            Err(errno) => {
                tracing::debug!(path = %self.path.display(), %errno, "the socket is gone already");
            }
        }
        if self.owner.directory
            && let Err(error) = remove_directory(&self.path)
        {
            // The companion stays, so that a later look finds the directory again.
            tracing::warn!(%error, "cannot remove the directory of a socket");
            return;
        }
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
    }
}

/// Takes the companion's lock for a starter, who must not be turned away by somebody who only
/// looks whether the owner is dead, or who removes what it left.
fn take_patiently(path: &Path) -> Result<CompanionLock, BindError> {
    let begin = Instant::now();
    let patience = |owner: &Owner| match owner.pid.and_then(|pid| i32::try_from(pid).ok()) {
        Some(pid) if has_ended(pid) => CLEARER_PATIENCE,
        _ => LOOKER_PATIENCE,
    };
    loop {
        match CompanionLock::take(path, true) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held(owner)) if begin.elapsed() < patience(&owner) => {
                thread::sleep(LOOKER_PAUSE);
            }
            Err(LockError::Held(owner)) => {
                return Err(BindError::InUse {
                    path: path.to_owned(),
                    pid: owner.pid,
                });
            }
            Err(LockError::NotACompanion) => {
                return Err(BindError::LockNameTaken {
                    path: CompanionLock::path_for(path),
                });
            }
            Err(LockError::Missing) => {}
            Err(LockError::Io(source))
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Err(BindError::NoDirectory {
                    path: path.to_owned(),
                    directory: path.parent().unwrap_or(path).to_owned(),
                });
            }
            Err(LockError::Io(source))
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                return Err(BindError::NotPermitted {
                    path: path.to_owned(),
                    lock: CompanionLock::path_for(path),
                    source,
                });
            }
            Err(LockError::Io(source)) => {
                return Err(BindError::Io {
                    action: "lock",
                    path: CompanionLock::path_for(path),
                    source,
                });
            }
        }
    }
}

/// Whether there is no process of that id, as far as this one can see.
fn has_ended(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Looks at what is at `path`; a socket is tried with a connection, because a server that is
/// not of OpenHDV has no companion file.
pub(crate) fn look(path: &Path) -> Result<Found, Errno> {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {}
        Ok(_) => return Ok(Found::NotASocket),
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        Err(errno) => return Err(errno),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Ok(()) => {
            let pid = PeerCredentials::of(&probe).ok().and_then(|peer| peer.pid);
            Ok(Found::Live(pid))
        }
        Err(Errno::CONNREFUSED) => Ok(Found::Stale),
        Err(Errno::NOENT) => Ok(Found::Nothing),
        // Its backlog is full, or it is a socket of another type: there is somebody.
        Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Found::Live(None)),
        Err(errno) => Err(errno),
    }
}

fn bind_private(path: &Path) -> Result<(UnixListener, FileId), Errno> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Linux gives the file the mode of the socket: there is no moment at which it is open to
    // others, and the process's umask stays as it is.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let ready = listen(&socket, BACKLOG)
        .and_then(|()| statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW))
        .map(|stat| FileId::of(&stat));
    match ready {
        Ok(id) => Ok((socket.into(), id)),
        Err(errno) => {
            let _ = unlinkat(CWD, path, AtFlags::empty());
            Err(errno)
        }
    }
}
