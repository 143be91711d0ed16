//! Where compute systems are found in the runtime directory: `systems/<name>.sock`, the worker's claimed socket, and
//! `systems/<name>/`, its private directory; `<name>` is made of the id. What dead workers left is removed here.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use hdv_control::{BindError, RuntimeDirectory, SOCKET_PATH_LIMIT, SocketClaim};
use uuid::Uuid;

use crate::error::codes;
use crate::{Error, Result};

/// Where compute systems are, in the runtime directory.
const SYSTEMS: &str = "systems";
/// Longest name of a socket in a system's directory, in bytes: `com255.qemu.sock`, or that of a device after many.
const NAME_LIMIT: usize = 16;
/// Longest id, in bytes.
const ID_LIMIT: usize = 255;
/// What ids are hashed with to make names of them.
const NAMESPACE: Uuid = Uuid::from_u128(0x2f0b_5c4e_93d1_4a07_8f6e_51c7_a9be_0d42);

/// The paths of one compute system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The worker's socket.
    pub(crate) socket: PathBuf,
    /// The directory of its other sockets and files.
    pub(crate) directory: PathBuf,
}

impl Place {
    fn of_socket(socket: PathBuf) -> Self {
        Self {
            directory: socket.with_extension(""),
            socket,
        }
    }
}

/// Where the system of an id is, or would be. The name is 32 hexadecimal digits, whatever the id: a socket's path has
/// little room.
///
/// # Errors
/// The id cannot be one: empty, longer than 255 bytes, or with control characters. The runtime directory's path is too long
/// for sockets in it.
pub(crate) fn place(runtime: &RuntimeDirectory, id: &str) -> Result<Place> {
    let bad = |reason| {
        let id = id.chars().take(ID_LIMIT).collect();
        Err(Error::BadId { id, reason })
    };
    if id.is_empty() {
        return bad("it is empty");
    }
    if id.len() > ID_LIMIT {
        return bad("it is longer than 255 bytes");
    }
    if id.chars().any(char::is_control) {
        return bad("it has control characters");
    }
    let name = Uuid::new_v5(&NAMESPACE, id.as_bytes()).simple();
    let directory = runtime.subdirectory(SYSTEMS)?;
    let place = Place::of_socket(directory.join(format!("{name}.sock")));
    let longest = place.directory.as_os_str().len() + 1 + NAME_LIMIT;
    if longest > SOCKET_PATH_LIMIT {
        return Err(Error::Refused {
            message: format!(
                "the runtime directory {} is too long for the sockets of compute systems, by {} bytes: set XDG_RUNTIME_DIR to a shorter directory of yours with mode 0700",
                runtime.path().display(),
                longest - SOCKET_PATH_LIMIT
            ),
            code: codes::E_FAIL,
        });
    }
    Ok(place)
}

/// The living systems' places; what dead workers left is removed. A worker may just be starting, so that it does not
/// listen yet.
///
/// # Errors
/// The runtime directory cannot be used.
pub(crate) fn living(runtime: &RuntimeDirectory) -> Result<Vec<Place>> {
    let living = runtime.living(SYSTEMS)?;
    Ok(living.into_iter().map(Place::of_socket).collect())
}

/// Takes the place of an id for this process, a worker: its listening socket and, empty, its directory. Both go when
/// what is given back is dropped.
///
/// # Errors
/// The id cannot be one, or is taken; the socket or the directory cannot be had.
pub(crate) fn claim(runtime: &RuntimeDirectory, id: &str) -> Result<(UnixListener, Claimed)> {
    let place = place(runtime, id)?;
    match SocketClaim::bind_with_directory(&place.socket) {
        Ok((listener, claim)) => Ok((listener, Claimed { place, claim })),
        Err(BindError::InUse { .. }) => Err(Error::AlreadyExists(id.to_owned())),
        Err(error) => Err(Error::Io {
            doing: format!("taking a place for compute system {id:?}"),
            source: std::io::Error::other(error),
        }),
    }
}

/// A place that is this process's, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claimed {
    place: Place,
    claim: SocketClaim,
}

impl Claimed {
    /// The worker's socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.place.socket
    }

    /// The directory of its other sockets and files, of mode 0700.
    pub(crate) fn directory(&self) -> &Path {
        &self.place.directory
    }

    /// Notes which sockets this process has, or is about to have, elsewhere: they go too when it was killed.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn note_sockets(&mut self, sockets: Vec<PathBuf>) -> Result<()> {
        self.claim.set_sockets(sockets).map_err(|source| Error::Io {
            doing: format!("noting the sockets of {}", self.place.socket.display()),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> (tempfile::TempDir, RuntimeDirectory) {
        let parent = tempfile::tempdir().unwrap();
        let runtime = RuntimeDirectory::at(&parent.path().join("openhdv")).unwrap();
        (parent, runtime)
    }

    #[test]
    fn places_are_short_and_tell_ids_apart() {
        let (_parent, runtime) = runtime();
        let systems = runtime.path().join("systems");
        let mut sockets = Vec::new();
        let long = "ä".repeat(127);
        for id in ["a", "A", "../a", "a/b", "a b", "-x", ".", &long] {
            let Place { socket, directory } = place(&runtime, id).unwrap();
            assert_eq!(socket.parent(), Some(systems.as_path()));
            assert_eq!(directory.with_extension("sock"), socket);
            let name = directory.file_name().unwrap().to_str().unwrap();
            assert_eq!(name.len(), 32);
            assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
            assert_eq!(place(&runtime, id).unwrap().socket, socket);
            sockets.push(socket);
        }
        sockets.sort();
        sockets.dedup();
        assert_eq!(sockets.len(), 8);
    }

    #[test]
    fn what_cannot_be_an_id_is_refused() {
        let (_parent, runtime) = runtime();
        for id in ["", "a\nb", "\0", &"x".repeat(256), "\u{85}"] {
            let refused = place(&runtime, id);
            assert!(matches!(refused, Err(Error::BadId { .. })), "{id:?}");
        }
        assert!(place(&runtime, &"x".repeat(255)).is_ok());
    }

    #[test]
    fn a_directory_that_is_too_long_for_its_sockets_is_told_before_anything_is_there() {
        let parent = tempfile::tempdir().unwrap();
        let runtime = |length: usize| {
            let name = "x".repeat(length - parent.path().as_os_str().len() - 1);
            RuntimeDirectory::at(&parent.path().join(name)).unwrap()
        };
        // What is behind it: `/systems/`, the name, a slash, a socket's.
        let longest = SOCKET_PATH_LIMIT - 9 - 32 - 1 - NAME_LIMIT;
        let (_listener, claimed) = claim(&runtime(longest), "vm").unwrap();
        let socket = claimed.directory().join("x".repeat(NAME_LIMIT));
        UnixListener::bind(socket).unwrap();
        let refused = place(&runtime(longest + 1), "vm").unwrap_err().to_string();
        assert!(refused.contains("by 1 bytes"), "{refused}");
        assert!(refused.contains("XDG_RUNTIME_DIR"), "{refused}");
    }

    #[test]
    fn a_place_is_taken_once_and_leaves_nothing() {
        let (_parent, runtime) = runtime();
        let (_listener, claimed) = claim(&runtime, "vm").unwrap();
        assert_eq!(claimed.socket(), place(&runtime, "vm").unwrap().socket);
        std::fs::write(claimed.directory().join("file"), "").unwrap();
        let again = claim(&runtime, "vm");
        assert!(matches!(again, Err(Error::AlreadyExists(id)) if id == "vm"));
        let (_other, other) = claim(&runtime, "vm2").unwrap();
        let mut sockets: Vec<_> = living(&runtime).unwrap();
        sockets.sort_by(|a, b| a.socket.cmp(&b.socket));
        let mut expected = vec![
            place(&runtime, "vm").unwrap(),
            place(&runtime, "vm2").unwrap(),
        ];
        expected.sort_by(|a, b| a.socket.cmp(&b.socket));
        assert_eq!(sockets, expected);
        drop((claimed, other));
        assert_eq!(living(&runtime).unwrap(), []);
        let left = std::fs::read_dir(runtime.path().join("systems")).unwrap();
        assert_eq!(left.count(), 0);
        claim(&runtime, "vm").unwrap();
    }
}
