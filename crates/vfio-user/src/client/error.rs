//! What can go wrong on the client's side.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use crate::capabilities::CapabilitiesError;
use crate::stream::FramingError;
use crate::wire::Command;

/// Why a request, or the connection, failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody serves at the path.
    #[error("cannot connect to {}: {source}; is a vfio-user server running there?", path.display())]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server answered with an error.
    #[error("the server refused {command}: {errno}")]
    Refused {
        /// The command.
        command: Command,
        /// The error in its reply; `EIO` if the server named none.
        errno: Errno,
    },
    /// The connection has ended.
    #[error("the server closed the connection while {command} was under way")]
    Disconnected {
        /// The command.
        command: Command,
    },
    /// No reply within the client's time limit.
    #[error("the server did not answer {command} in time")]
    TimedOut {
        /// The command.
        command: Command,
    },
    /// The server broke the protocol.
    #[error("the server's reply to {command} is wrong: {problem}")]
    Protocol {
        /// The command.
        command: Command,
        /// What is wrong with the reply.
        problem: &'static str,
    },
    /// A message of an impossible size.
    #[error("the server sent garbage: {0}")]
    Framing(#[from] FramingError),
    /// The capabilities in the server's VERSION reply cannot be understood.
    #[error("the server's VERSION reply is wrong: {0}")]
    Capabilities(#[from] CapabilitiesError),
    /// The request cannot be made at all.
    #[error("{command} is not possible: {problem}")]
    Impossible {
        /// The command.
        command: Command,
        /// Why.
        problem: &'static str,
    },
    /// The socket reports an error.
    #[error("the vfio-user socket failed: {0}")]
    Socket(#[from] Errno),
}

impl ClientError {
    /// The errno of a refusal.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}
