//! Why there is no vfio-user server behind a path, for people: what is wrong and what to do.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use hdv_control::SOCKET_PATH_LIMIT;
use hdv_vfio_user::client::ClientError;
use rustix::io::Errno;

use crate::process::server_of;

/// What to tell when there is no connection, or it ends before VERSION is answered.
pub(super) fn of_connecting(socket: &Path, error: &ClientError) -> String {
    let path = socket.display();
    match error {
        ClientError::Connect { source, .. } => of_the_path(socket, source),
        ClientError::Disconnected { .. } => format!(
            "{path}: {error}; {} is no vfio-user server, or it has another client and takes one only",
            server_of(socket)
        ),
        ClientError::TimedOut { .. } => format!(
            "{path}: {error}; {} is stopped, has another client, or is no vfio-user server",
            server_of(socket)
        ),
        ClientError::Framing(_) | ClientError::Capabilities(_) | ClientError::Protocol { .. } => {
            format!(
                "{path}: {error}; {} is no vfio-user server",
                server_of(socket)
            )
        }
        // A device that cannot be powered on, most often; the answer holds a number only.
        ClientError::Refused { .. } => {
            format!("{path}: {error}; the log of {} says why", server_of(socket))
        }
        _ => format!("{path}: {error}"),
    }
}

/// What to tell when the path leads to no server.
fn of_the_path(socket: &Path, error: &io::Error) -> String {
    let path = socket.display();
    let metadata = fs::metadata(socket);
    match (error.kind(), &metadata) {
        _ if socket.as_os_str().len() > SOCKET_PATH_LIMIT => format!(
            "the socket path {path} is {} bytes long; the kernel takes at most {SOCKET_PATH_LIMIT}: \
             change to its directory and give a shorter relative path",
            socket.as_os_str().len()
        ),
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => format!(
            "there is no socket {path}: `hdv ls` lists the sockets of running hosts, `hdv serve --help` \
             says how to start one"
        ),
        (_, Ok(file)) if file.is_dir() => {
            format!("{path} is a directory; give the path of a vfio-user server's socket")
        }
        (_, Ok(file)) if !file.file_type().is_socket() => {
            format!("{path} is not a socket; give the path of a vfio-user server's socket")
        }
        (io::ErrorKind::ConnectionRefused, _) => {
            format!("nobody listens on {path}: the server that made it has ended; start it again")
        }
        (io::ErrorKind::PermissionDenied, Ok(file)) => format!(
            "no permission to connect to {path}: it belongs to user {}; ask as that user or as root",
            file.uid()
        ),
        (io::ErrorKind::PermissionDenied, Err(_)) => {
            format!("no permission to look at {path}: ask as the user who serves it, or as root")
        }
        _ if Errno::from_io_error(error) == Some(Errno::PROTOTYPE) => {
            format!("{path} is a socket of another type; vfio-user servers have stream sockets")
        }
        // The time limit of the connection.
        (io::ErrorKind::WouldBlock, _) => format!(
            "the server of {path} accepts no connections: it is stopped, or has another client and \
             takes one only; try again when that has ended"
        ),
        _ => format!("cannot connect to {path}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use hdv_vfio_user::Errno;
    use hdv_vfio_user::wire::Command;

    use super::*;

    #[test]
    fn a_refusal_says_where_its_reason_is() {
        let error = ClientError::Refused {
            command: Command::Version,
            errno: Errno::IO,
        };
        let text = of_connecting(Path::new("/nowhere/nic-vf0.sock"), &error);
        assert!(
            text.starts_with("/nowhere/nic-vf0.sock: the server refused VERSION: "),
            "{text}"
        );
        assert!(text.ends_with("; the log of the server says why"), "{text}");
    }
}
