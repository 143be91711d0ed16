//! Devices of vfio-user servers.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::arguments::{socket_path, utf8};
use crate::Result;
use crate::locate::DEVICE;

/// A device that a vfio-user server offers on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioUserDevice {
    socket: PathBuf,
    id: Option<String>,
    bus: Option<String>,
    address: Option<String>,
    message_timeout: Option<Duration>,
}

impl VfioUserDevice {
    /// The device on that socket, on the root bus, at an address of QEMU's choice.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            id: None,
            bus: None,
            address: None,
            message_timeout: None,
        }
    }

    /// The name that QMP knows it by.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The bus it is put on: `pcie.0` or the name of a [`Machine::root_port`](super::Machine::root_port).
    #[must_use]
    pub fn bus(mut self, bus: impl Into<String>) -> Self {
        self.bus = Some(bus.into());
        self
    }

    /// Its place on the bus, in QEMU's form `<device>.<function>` in hexadecimal.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// How long QEMU waits for a reply before it gives the connection up; 5 s otherwise.
    /// Whole milliseconds.
    #[must_use]
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.message_timeout = Some(timeout);
        self
    }

    /// The arguments of QMP's `device_add`, and of `-device` in its JSON form.
    ///
    /// # Errors
    ///
    /// [`Error::Machine`](crate::Error::Machine) when the socket's path is not UTF-8 or too long for a socket.
    pub fn to_json(&self) -> Result<Value> {
        let path = socket_path("device socket", &self.socket)?;
        let path = utf8("device socket", path)?;
        let mut device = json!({"driver": DEVICE, "socket": {"type": "unix", "path": path}});
        for (name, value) in [
            ("id", &self.id),
            ("bus", &self.bus),
            ("addr", &self.address),
        ] {
            if let Some(value) = value {
                device[name] = json!(value);
            }
        }
        if let Some(timeout) = self.message_timeout {
            let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            device["x-msg-timeout"] = json!(milliseconds);
        }
        Ok(device)
    }
}
