//! The socket that a document names for a serial port.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use hdv_control::{RuntimeDirectory, SocketClaim};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::error::{Error, Result, codes};

/// What the name of a pipe begins with on Windows.
const WINDOWS: &str = r"\\.\pipe\";

/// How a port has its named socket.
pub(super) enum Pipe {
    /// The document names none.
    None,
    /// Somebody listens there.
    Connected(UnixStream),
    /// Nobody did.
    Listening(UnixListener, SocketClaim),
}

/// Connects to `name`, or listens there.
pub(super) fn open(name: &str, number: u8) -> Result<Pipe> {
    if name.is_empty() {
        return Ok(Pipe::None);
    }
    let refused = |reason: String| Error::Refused {
        message: format!("the named pipe {name:?} of serial port {number}: {reason}"),
        code: codes::E_INVALIDARG,
    };
    let path = if is_windows(name) {
        path(name, RuntimeDirectory::locate()?.path())
    } else {
        path(name, Path::new(""))
    }
    .map_err(|reason| refused(reason.to_owned()))?;
    match connect_to(&path) {
        Ok(stream) => {
            let trusted = super::is_trusted(&stream).map_err(|error| refused(error.to_string()))?;
            if !trusted {
                let path = path.display();
                return Err(refused(format!(
                    "another user's process listens at {path}; name another path"
                )));
            }
            Ok(Pipe::Connected(stream))
        }
        Err(Errno::NOENT | Errno::CONNREFUSED) => {
            let (listener, claim) =
                super::listen(&path).map_err(|error| refused(error.to_string()))?;
            Ok(Pipe::Listening(listener, claim))
        }
        Err(errno) => Err(refused(format!(
            "cannot connect to {}: {}",
            path.display(),
            io::Error::from(errno)
        ))),
    }
}

fn is_windows(name: &str) -> bool {
    name.get(..WINDOWS.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(WINDOWS))
}

/// The path that a name stands for.
fn path(name: &str, runtime: &Path) -> std::result::Result<PathBuf, &'static str> {
    if !is_windows(name) {
        return Ok(PathBuf::from(name));
    }
    let name = &name[WINDOWS.len()..];
    if matches!(name, "" | "." | "..") || name.contains(['/', '\\', '\0']) {
        return Err(
            "a name without slashes is needed; it is that of a socket in the runtime directory",
        );
    }
    Ok(runtime.join(name))
}

/// Without waiting: a server that accepts nothing has a full backlog, and that is an error.
fn connect_to(path: &Path) -> std::result::Result<UnixStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(stream.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_windows_pipes_are_sockets_of_the_runtime_directory() {
        let runtime = Path::new("/run/user/7/openhdv");
        assert_eq!(path("/tmp/a", runtime).unwrap(), Path::new("/tmp/a"));
        for name in [r"\\.\pipe\vm com 1", r"\\.\PIPE\vm com 1"] {
            assert_eq!(path(name, runtime).unwrap(), runtime.join("vm com 1"));
        }
        for name in ["", ".", "..", "a/b", "/etc/x", r"a\b", "a\0"] {
            assert!(
                path(&format!("{WINDOWS}{name}"), runtime).is_err(),
                "{name}"
            );
        }
    }
}
