//! The control sockets in the runtime directory: whose are there, and clearing away the dead.

use std::path::PathBuf;

use crate::claim::{Cleared, clear, remove_if_dead};
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
    /// removed. A process may still end before it is asked something.
    ///
    /// # Errors
    /// The directory cannot be read or is not private.
    pub fn hosts(&self) -> Result<Vec<HostEntry>, RuntimeDirectoryError> {
        let directory = self.subdirectory(HOSTS)?;
        let failed = |source| RuntimeDirectoryError::Io {
            path: directory.clone(),
            source,
        };
        let mut hosts = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            // By the companions: a socket never exists without one.
            let Some(path) = CompanionLock::socket_for(&entry.map_err(failed)?.path()) else {
                continue;
            };
            let Some(pid) = pid_of(&path) else {
                continue;
            };
            match clear(&path) {
                Cleared::Living => hosts.push(HostEntry { pid, path }),
                Cleared::Dead(owner) => {
                    for socket in owner.sockets {
                        remove_if_dead(&socket);
                    }
                }
                Cleared::Unclaimed | Cleared::Unknown => {}
            }
        }
        hosts.sort_by(|a, b| (a.pid, &a.path).cmp(&(b.pid, &b.path)));
        Ok(hosts)
    }
}

/// The pid in a control socket's name: `<pid>.sock`, or `<pid>-<number>.sock` for a further one
/// of the same process.
fn pid_of(path: &std::path::Path) -> Option<u32> {
    let stem = path.file_name()?.to_str()?.strip_suffix(SOCKET_SUFFIX)?;
    stem.split('-').next()?.parse().ok()
}
