//! Devices of device hosts in a document.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A device of a device host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct FlexibleIoDevice {
    /// Which emulator: the class id.
    pub emulator_id: Uuid,
    /// Where it runs.
    #[serde(default)]
    pub hosting_model: HostingModel,
    /// The strings for `SetConfiguration`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configuration: Vec<String>,
}

/// Where a device runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostingModel {
    /// One of our own devices, in a process that the worker starts.
    #[default]
    Internal,
    /// In a process of the user's.
    External,
    /// In a process without rights to the VM, which reaches it through a broker.
    ExternalRestricted,
}

/// The instance id that a key under `FlexibleIov` stands for: itself, if it is a GUID (in any case, with or without braces or
/// hyphens), else one made of the name, always the same.
#[must_use]
pub fn instance_id(key: &str) -> Uuid {
    /// Names of devices are hashed in this space (RFC 9562, version 5).
    const NAMES: Uuid = Uuid::from_u128(0x6f70_656e_6864_7600_9d5c_2f4a_7b31_e80c);
    Uuid::try_parse(key).unwrap_or_else(|_| Uuid::new_v5(&NAMES, key.as_bytes()))
}
