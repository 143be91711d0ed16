//! Why a socket path cannot be claimed, for people. What is tried is in `claim`.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Longest path of a Unix socket, in bytes (`sun_path` of `unix(7)`, without the final NUL).
pub const SOCKET_PATH_LIMIT: usize = 107;

/// A socket path that cannot be claimed.
#[derive(Debug, Error)]
pub enum BindError {
    /// The path does not fit into a socket address.
    #[error("the socket path {} is {length} bytes long; the kernel takes at most {SOCKET_PATH_LIMIT}: choose a shorter path, such as one in /tmp", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// A process listens there.
    #[error("{} is in use by {}: end it, or choose another path", path.display(), process(*pid))]
    InUse {
        /// The path.
        path: PathBuf,
        /// The process, if it is known.
        pid: Option<u32>,
    },
    /// The path exists and is not a socket.
    #[error("{} exists and is not a socket; it was left alone: remove it, or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The directory that is to hold the socket does not exist.
    #[error("there is no directory {} for the socket {}: create it, or choose another path", directory.display(), path.display())]
    NoDirectory {
        /// The socket's path.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// The path ends as only a directory's does.
    #[error("{} names a directory; a socket is a file: add a name for it", path.display())]
    NoFileName {
        /// The path.
        path: PathBuf,
    },
    /// The directory, or a companion file of somebody else, cannot be written.
    #[error("no permission to create the socket {} with its lock file {}: choose a path in a directory of this user, or remove what another user left there", path.display(), lock.display())]
    NotPermitted {
        /// The socket's path.
        path: PathBuf,
        /// The companion's path.
        lock: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file has the name of the companion file.
    #[error("{} exists and is not a lock file of OpenHDV; it was left alone: remove it, or choose another socket path", path.display())]
    LockNameTaken {
        /// The companion's path.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => format!("this process ({pid})"),
        Some(pid) => match process_name(pid) {
            Some(name) => format!("process {pid} ({name})"),
            None => format!("process {pid}"),
        },
        None => "another process".to_owned(),
    }
}

/// The command name of a process, if it can be read.
fn process_name(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
