//! The asking end of a control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use serde_json::Value;
use thiserror::Error;

use crate::peer::PeerCredentials;
use crate::registry::ControlError;
use crate::wire::{self, LENGTH_SIZE, Request, Response, WireError};

/// How long a server may take to accept, and to answer a call unless more is said.
const PATIENCE: Duration = Duration::from_secs(5);

/// A control socket that cannot be reached.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody listens, or the kernel refused.
    #[error("cannot connect to the control socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server is another user's.
    #[error("the control socket {} is served by user {uid}; it must be this user or root", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// The server's user id.
        uid: u32,
    },
}

/// A call without a result.
#[derive(Debug, Error)]
pub enum CallError {
    /// The command failed.
    #[error(transparent)]
    Command(#[from] ControlError),
    /// The server's message, or the request, breaks the rules.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server did not answer in time.
    #[error("the control socket {} gave no answer within {} seconds; its process may be busy or stopped", path.display(), patience.as_secs())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The connection broke.
    #[error("the connection to the control socket {} broke: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Until when a call waits.
#[derive(Clone, Copy)]
struct Limit {
    deadline: Instant,
    patience: Duration,
}

/// A connection to a control socket.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    peer: PeerCredentials,
}

impl Client {
    /// Connects, and checks that the server is this user's or root's. Root may reach anybody's.
    ///
    /// # Errors
    /// Nobody listens there, the path is no socket or too long, or the server is another
    /// user's.
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        let (stream, peer) = connect_trusted(path)?;
        Ok(Self {
            stream,
            path: path.to_owned(),
            peer,
        })
    }

    /// The process that serves the socket.
    #[must_use]
    pub fn peer(&self) -> PeerCredentials {
        self.peer
    }

    /// Calls a command and waits for its answer, a few seconds at most. After any error but
    /// [`CallError::Command`] the connection is of no further use.
    ///
    /// # Errors
    /// The command failed, the server did not answer in time, or the connection broke.
    pub fn call(&mut self, command: &str, args: &Value) -> Result<Value, CallError> {
        self.call_within(command, args, PATIENCE)
    }

    /// As [`call`](Self::call), for a command that may take as long as `patience`. One that takes longer
    /// goes on all the same.
    ///
    /// # Errors
    /// As there.
    pub fn call_within(
        &mut self,
        command: &str,
        args: &Value,
        patience: Duration,
    ) -> Result<Value, CallError> {
        let frame = wire::encode(&Request {
            command: command.to_owned(),
            args: args.clone(),
        })?;
        let limit = Limit {
            deadline: Instant::now() + patience,
            patience,
        };
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            self.limit(limit)?;
            match self.stream.write(rest) {
                Ok(0) => return Err(self.broken(io::ErrorKind::WriteZero.into())),
                Ok(count) => rest = &rest[count..],
                Err(error) => self.retry(error)?,
            }
        }
        let mut bytes = vec![0; LENGTH_SIZE];
        self.receive(&mut bytes, limit)?;
        let size = wire::frame_size::<Response>(&bytes)?.unwrap_or(LENGTH_SIZE);
        bytes.resize(size, 0);
        self.receive(&mut bytes[LENGTH_SIZE..], limit)?;
        match wire::decode::<Response>(&bytes)? {
            Response::Ok(value) => Ok(value),
            Response::Error(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, mut rest: &mut [u8], limit: Limit) -> Result<(), CallError> {
        while !rest.is_empty() {
            self.limit(limit)?;
            match self.stream.read(rest) {
                Ok(0) => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => rest = &mut rest[count..],
                Err(error) => self.retry(error)?,
            }
        }
        Ok(())
    }

    /// Sets the stream's time-outs to what is left until the deadline.
    fn limit(&self, limit: Limit) -> Result<(), CallError> {
        let left = limit.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CallError::TimedOut {
                path: self.path.clone(),
                patience: limit.patience,
            });
        }
        self.stream
            .set_read_timeout(Some(left))
            .and_then(|()| self.stream.set_write_timeout(Some(left)))
            .map_err(|error| self.broken(error))
    }

    /// Passes over what only means "again"; the deadline is looked at before the next try.
    fn retry(&self, error: io::Error) -> Result<(), CallError> {
        match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(()),
            _ => Err(self.broken(error)),
        }
    }

    fn broken(&self, source: io::Error) -> CallError {
        CallError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// Connects to any listening socket of this user or root, within a few seconds: a server that accepts nobody is not waited
/// for without end. Root may reach anybody's.
///
/// # Errors
/// Nobody listens there or accepts in time, the path is no socket or too long, or the server is another user's.
pub fn connect(path: &Path) -> Result<UnixStream, ConnectError> {
    connect_trusted(path).map(|(stream, _)| stream)
}

/// As [`connect`](self::connect()), and tells whose the server is.
pub(crate) fn connect_trusted(path: &Path) -> Result<(UnixStream, PeerCredentials), ConnectError> {
    let failed = |source| ConnectError::Io {
        path: path.to_owned(),
        source,
    };
    let stream = open(path).map_err(failed)?;
    let peer = PeerCredentials::of(&stream).map_err(failed)?;
    if !peer.is_trusted() && !rustix::process::geteuid().is_root() {
        return Err(ConnectError::Foreign {
            path: path.to_owned(),
            uid: peer.uid,
        });
    }
    Ok((stream, peer))
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // It bounds connect, too, which waits while the server's backlog is full.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_accepts_nobody_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let server = UnixListener::bind(&path).unwrap();
        // None beside the one that waits.
        rustix::net::listen(&server, 0).unwrap();
        let first = connect(&path).unwrap();
        // What is connected waits as sockets do.
        assert_eq!(first.write_timeout().unwrap(), None);
        let begin = Instant::now();
        let refused = connect(&path).unwrap_err();
        assert!(matches!(refused, ConnectError::Io { .. }), "{refused}");
        assert!(begin.elapsed() >= PATIENCE, "it was not given its time");
    }
}
