//! Clearing away what a dead process left of a claim: the socket, the directory beside it, the sockets that it had noted. Who
//! does it holds the claim's lock meanwhile, so that nobody who starts anew on the path is in the way. And who has a claim.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, statat, unlinkat};
use rustix::io::Errno;

use crate::bind_error::BindError;
use crate::claim::{Found, look};
use crate::lock::{CompanionLock, LockError, Owner};

/// How often the removal of a directory is tried again, into which somebody still puts files.
const REMOVAL_TRIES: u32 = 100;

/// Removes the socket at `path` with its companion file, the directory that was claimed with it, and the sockets that its
/// owner had noted, if the owner is dead.
///
/// Returns whether the path is free of a claim now. What no claim was ever made on is left
/// alone.
pub fn remove_if_dead(path: &Path) -> bool {
    matches!(clear(path), Cleared::Dead | Cleared::Unclaimed)
}

/// The process that has claimed the socket at `path`; `None` if no living one of this user has. Who listens there by a
/// claim is known from the moment that it can be connected to.
#[must_use]
pub fn claimed_by(path: &Path) -> Option<u32> {
    match CompanionLock::take(path, false) {
        Err(LockError::Held(owner)) => owner.pid,
        _ => None,
    }
}

/// What became of a claim that was looked at.
pub(crate) enum Cleared {
    /// There is no claim.
    Unclaimed,
    /// Its owner was dead; it is gone, with what the owner had noted.
    Dead,
    /// Its owner lives.
    Living,
    /// It cannot be told, or not be removed.
    Unknown,
}

/// Removes a claim whose owner is dead, with all that it had noted.
pub(crate) fn clear(path: &Path) -> Cleared {
    let mut lock = match CompanionLock::take(path, false) {
        Ok(lock) => lock,
        Err(LockError::Missing) => return Cleared::Unclaimed,
        Err(LockError::Held(_)) => return Cleared::Living,
        Err(LockError::NotACompanion) => return Cleared::Unknown,
        Err(LockError::Io(error)) => {
            tracing::debug!(path = %path.display(), %error, "cannot look at a lock file");
            return Cleared::Unknown;
        }
    };
    let owner = lock.read().unwrap_or_default();
    match look(path) {
        Ok(Found::Stale) => {
            tracing::info!(path = %path.display(), "removing the socket of a dead process");
            if let Err(errno) = unlinkat(CWD, path, AtFlags::empty()) {
                // The companion stays, so that a later try finds the socket again.
                tracing::warn!(path = %path.display(), %errno, "cannot remove a stale socket");
                return Cleared::Unknown;
            }
        }
        Ok(Found::Nothing | Found::NotASocket) => {}
        Ok(Found::Live(_)) | Err(_) => return Cleared::Unknown,
    }
    // Under the lock: who starts anew on this path waits, and makes a directory of its own then.
    if owner.directory
        && let Err(error) = remove_directory(path)
    {
        tracing::warn!(%error, "cannot remove what a dead process left");
        return Cleared::Unknown;
    }
    // And before the companion goes: who is killed meanwhile leaves the rest to the next one.
    remove_noted(&owner);
    lock.remove();
    Cleared::Dead
}

/// Removes the sockets that a dead owner had elsewhere.
pub(crate) fn remove_noted(owner: &Owner) {
    for socket in &owner.sockets {
        remove_if_dead(socket);
    }
}

/// Removes the directory beside a socket, if there is one, with all that is in it; links are removed, not followed. Only
/// for who holds the lock.
pub(crate) fn remove_directory(socket: &Path) -> Result<(), BindError> {
    let Some(directory) = CompanionLock::directory_for(socket) else {
        return Ok(());
    };
    let mut tries = 0;
    loop {
        match std::fs::remove_dir_all(&directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !exists(&directory) => {
                return Ok(());
            }
            // A process that has not noticed the owner's end yet, and puts something in or takes it out.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
                ) && tries < REMOVAL_TRIES =>
            {
                tries += 1;
            }
            Err(source) => {
                return Err(BindError::Io {
                    action: "remove the directory",
                    path: directory,
                    source,
                });
            }
        }
    }
}

fn exists(path: &Path) -> bool {
    !matches!(
        statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW),
        Err(Errno::NOENT)
    )
}
