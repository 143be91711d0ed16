//! The socket that a document names for a serial port.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use hdv_control::SocketClaim;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::error::{Error, Result, codes};

/// How a port has its named socket.
pub(super) enum Pipe {
    /// The document names none.
    None,
    /// Somebody listens there.
    Connected(UnixStream),
    /// Nobody did.
    Listening(UnixListener, SocketClaim),
}

/// Connects to what listens at `path`, unless that is a VM's, or listens there.
pub(super) fn open(path: Option<&Path>, number: u8) -> Result<Pipe> {
    let Some(path) = path else {
        return Ok(Pipe::None);
    };
    let refused = |reason: String| Error::Refused {
        message: format!(
            "the named pipe {} of serial port {number} (VirtualMachine/Devices/ComPorts/{number}/NamedPipe): {reason}",
            path.display()
        ),
        code: codes::E_INVALIDARG,
    };
    match connect_to(path) {
        Ok(stream) => {
            let trusted = super::is_trusted(&stream).map_err(|error| refused(error.to_string()))?;
            if !trusted {
                let reason = "another user's process listens there; name another path";
                return Err(refused(reason.to_owned()));
            }
            // Two VMs of one document: their guests would read each other's output as input.
            if let Some(pid) = hdv_control::claimed_by(path) {
                return Err(refused(taken(pid)));
            }
            Ok(Pipe::Connected(stream))
        }
        Err(Errno::NOENT | Errno::CONNREFUSED) => {
            let (listener, claim) =
                super::listen(path).map_err(|error| refused(error.to_string()))?;
            Ok(Pipe::Listening(listener, claim))
        }
        Err(errno) => Err(refused(format!(
            "cannot connect to it: {}",
            io::Error::from(errno)
        ))),
    }
}

/// Who of OpenHDV listens there.
fn taken(pid: u32) -> String {
    if pid == std::process::id() {
        return "another serial port of this VM listens there; each needs a NamedPipe of its own"
            .to_owned();
    }
    format!(
        "process {pid}, the worker of another VM, listens there; each VM needs a NamedPipe of its own"
    )
}

/// Without waiting: a server that accepts nothing has a full backlog, and that is an error.
fn connect_to(path: &Path) -> std::result::Result<UnixStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(stream.into())
}
