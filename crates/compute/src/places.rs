//! Where compute systems are found in the runtime directory: `systems/<name>.sock`, the worker's claimed socket, and
//! `systems/<name>/`, its private directory; `<name>` is made of the id. What dead workers left is removed here.

use std::path::PathBuf;

use hdv_control::RuntimeDirectory;

use crate::Result;

/// The paths of one compute system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The worker's socket.
    pub(crate) socket: PathBuf,
    /// The directory of its other sockets and files.
    pub(crate) directory: PathBuf,
}

/// Where the system of an id is, or would be.
///
/// # Errors
/// The id cannot be one: empty, longer than 255 bytes, or with control characters.
pub(crate) fn place(runtime: &RuntimeDirectory, id: &str) -> Result<Place> {
    let _ = (runtime, id);
    todo!()
}

/// The living systems' places; what dead workers left is removed.
///
/// # Errors
/// The runtime directory cannot be used.
pub(crate) fn living(runtime: &RuntimeDirectory) -> Result<Vec<Place>> {
    let _ = runtime;
    todo!()
}
