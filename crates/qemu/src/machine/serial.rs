//! Serial ports.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::json;

use super::arguments::{Arguments, socket_path, with_path};
use crate::Result;

/// Where a serial port of the guest goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Serial {
    /// QEMU's standard input and output; a [`crate::guest::RunningGuest`] reads its lines.
    Stdio,
    /// A file that QEMU writes.
    File(PathBuf),
    /// A Unix socket that QEMU listens on; output without a client is lost.
    Socket(PathBuf),
    /// A Unix socket that somebody listens on when QEMU starts; QEMU connects to it then, once.
    Client(PathBuf),
    /// Nowhere: the guest does not have the port.
    None,
}

/// The interrupts of the four ports. Those of a PC's third and fourth are the first's and second's, which only two
/// ports of one driver could share; the firmware's tables tell the guest of these.
const INTERRUPTS: [u8; 4] = [4, 3, 5, 7];

impl Serial {
    /// Puts port `index` in.
    pub(super) fn put(&self, index: u8, arguments: &mut Arguments) -> Result<()> {
        let id = format!("serial{index}");
        let option = match self {
            Self::Stdio => OsString::from(format!("stdio,id={id},signal=off")),
            Self::File(path) => with_path(&format!("file,id={id},path="), path),
            Self::Socket(path) => {
                let path = socket_path("serial socket", path)?;
                let mut option = with_path(&format!("socket,id={id},path="), path);
                option.push(",server=on,wait=off");
                option
            }
            Self::Client(path) => {
                let path = socket_path("serial socket", path)?;
                with_path(&format!("socket,id={id},path="), path)
            }
            Self::None => return Ok(()),
        };
        arguments.option("-chardev", option);
        let mut port = json!({"driver": "isa-serial", "chardev": id, "index": index});
        if let Some(interrupt) = INTERRUPTS.get(usize::from(index)) {
            port["irq"] = json!(interrupt);
        }
        arguments.json("-device", &port);
        Ok(())
    }
}
