//! Names of processes, for people.

use std::path::Path;

use hdv_control::PeerCredentials;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// `process 123 (qemu-system-x86)`, or without the name where it cannot be read.
pub(crate) fn describe(pid: u32) -> String {
    match name(pid) {
        Some(name) => format!("process {pid} ({name})"),
        None => format!("process {pid}"),
    }
}

/// The process that listens on a socket, in words.
pub(crate) fn server_of(socket: &Path) -> String {
    server_pid(socket).map_or_else(|| "the server".to_owned(), describe)
}

fn server_pid(socket: &Path) -> Option<u32> {
    // Without waiting: a server that accepts nothing has a full backlog.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    connect(&stream, &SocketAddrUnix::new(socket).ok()?).ok()?;
    PeerCredentials::of(&stream).ok()?.pid
}

/// The command name of a process, without control characters.
pub(crate) fn name(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // The process chose it, and it goes to a terminal.
    let name: String = text
        .trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_name_and_pid_0_has_none() {
        let pid = std::process::id();
        let name = name(pid).unwrap();
        assert_eq!(describe(pid), format!("process {pid} ({name})"));
        assert_eq!(describe(0), "process 0");
    }
}
