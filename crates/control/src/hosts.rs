//! The control sockets in the runtime directory: whose are there, and clearing away the dead.

use std::path::{Path, PathBuf};

use crate::clear::{Cleared, clear};
use crate::lock::CompanionLock;
use crate::runtime_directory::{RuntimeDirectory, RuntimeDirectoryError};

/// Where the control sockets are, in the runtime directory.
pub(crate) const HOSTS: &str = "hosts";
/// What a control socket's name ends in.
pub(crate) const SOCKET_SUFFIX: &str = ".sock";

/// A living process with a control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Its process id, as it sees it.
    pub pid: u32,
    /// Its control socket.
    pub path: PathBuf,
}

/// The living hosts of this user; the sockets of dead ones are removed.
///
/// # Errors
/// The runtime directory cannot be used.
pub fn hosts() -> Result<Vec<HostEntry>, RuntimeDirectoryError> {
    RuntimeDirectory::locate()?.hosts()
}

impl RuntimeDirectory {
    /// The living hosts, by pid; what dead ones left, their device sockets included, is
    /// removed, as is what dead processes left in other directories there. A process may still end before it is asked
    /// something.
    ///
    /// # Errors
    /// The directory cannot be read or is not private.
    pub fn hosts(&self) -> Result<Vec<HostEntry>, RuntimeDirectoryError> {
        let directory = self.subdirectory(HOSTS)?;
        let mut hosts = Vec::new();
        for path in claims(&directory)? {
            let Some(pid) = pid_of(&path) else {
                continue;
            };
            if let Cleared::Living = clear(&path) {
                hosts.push(HostEntry { pid, path });
            }
        }
        self.clear_others()?;
        hosts.sort_by(|a, b| (a.pid, &a.path).cmp(&(b.pid, &b.path)));
        Ok(hosts)
    }

    /// The sockets in one of its directories whose owners live, by path; what dead ones left is removed. An owner may just
    /// be starting, so that it does not listen yet, or end before it is asked something.
    ///
    /// # Errors
    /// The directory cannot be read or is not private.
    pub fn living(&self, name: &str) -> Result<Vec<PathBuf>, RuntimeDirectoryError> {
        let mut living = claims(&self.subdirectory(name)?)?;
        living.retain(|path| matches!(clear(path), Cleared::Living | Cleared::Unknown));
        living.sort();
        Ok(living)
    }

    /// Removes what dead processes left in all its directories but the hosts'.
    fn clear_others(&self) -> Result<(), RuntimeDirectoryError> {
        let failed = |source| RuntimeDirectoryError::Io {
            path: self.path().to_owned(),
            source,
        };
        for entry in std::fs::read_dir(self.path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // Not through links.
            let directory = entry.file_type().is_ok_and(|found| found.is_dir());
            if directory && entry.file_name() != HOSTS {
                // One that has gone meanwhile, or cannot be read, holds nobody up.
                for path in claims(&entry.path()).unwrap_or_default() {
                    clear(&path);
                }
            }
        }
        Ok(())
    }
}

/// The sockets in a directory that are or were claimed; by the companions: a socket never exists without one.
fn claims(directory: &Path) -> Result<Vec<PathBuf>, RuntimeDirectoryError> {
    let failed = |source| RuntimeDirectoryError::Io {
        path: directory.to_owned(),
        source,
    };
    let mut claims = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        claims.extend(CompanionLock::socket_for(&entry.map_err(failed)?.path()));
    }
    Ok(claims)
}

/// The pid in a control socket's name: `<pid>.sock`, or `<pid>-<number>.sock` for a further one
/// of the same process.
fn pid_of(path: &Path) -> Option<u32> {
    let stem = path.file_name()?.to_str()?.strip_suffix(SOCKET_SUFFIX)?;
    stem.split('-').next()?.parse().ok()
}
