//! Arguments as QEMU takes them: lists, commas in paths, sockets' paths, JSON.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// The longest path of a Unix socket in bytes, without its end (`sun_path` of `unix(7)`).
pub const SOCKET_PATH_LIMIT: usize = 107;

/// QEMU's arguments, in order.
pub(super) struct Arguments(pub(super) Vec<OsString>);

impl Arguments {
    pub(super) fn push(&mut self, argument: impl Into<OsString>) {
        self.0.push(argument.into());
    }

    pub(super) fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.push(name);
        self.push(value);
    }

    /// An option in its JSON form, in which no character has a meaning of its own.
    pub(super) fn json(&mut self, name: &str, value: &Value) {
        self.option(name, value.to_string());
    }
}

/// An option that ends in a path; QEMU reads a doubled comma as one that belongs to the value.
pub(super) fn with_path(option: &str, path: &Path) -> OsString {
    let mut bytes = option.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

pub(super) fn socket_path<'a>(what: &'static str, path: &'a Path) -> Result<&'a Path> {
    let error = |reason| Error::Machine {
        what,
        value: path.to_string_lossy().into_owned(),
        reason,
    };
    if path.as_os_str().is_empty() {
        return Err(error("a socket needs a path"));
    }
    if path.as_os_str().len() > SOCKET_PATH_LIMIT {
        return Err(error(
            "the path of a Unix socket has at most 107 bytes; choose a shorter directory",
        ));
    }
    Ok(path)
}

/// A path for QEMU's JSON.
pub(super) fn utf8<'a>(what: &'static str, path: &'a Path) -> Result<&'a str> {
    path.to_str().ok_or_else(|| Error::Machine {
        what,
        value: path.to_string_lossy().into_owned(),
        reason: "QEMU's JSON takes paths in UTF-8 only",
    })
}
