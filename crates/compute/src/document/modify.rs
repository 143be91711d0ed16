//! Requests that change a compute system.

use uuid::Uuid;

use super::{DocumentError, FlexibleIoDevice};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestType {
    /// Plug the device in.
    Add,
    /// Take it out.
    Remove,
}

/// A change of a device under `VirtualMachine/Devices/FlexibleIov`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModifyRequest {
    /// What is to be done.
    pub request_type: RequestType,
    /// The device's key, as the request has it.
    pub key: String,
    /// The device's instance id.
    pub instance_id: Uuid,
    /// What is added; `None` for a removal.
    pub device: Option<FlexibleIoDevice>,
}

impl ModifyRequest {
    /// Reads a request: `{"ResourcePath": "VirtualMachine/Devices/FlexibleIov/<key>", "RequestType": "Add" | "Remove",
    /// "Settings": {...}}`.
    ///
    /// # Errors
    /// As [`ComputeSystemDocument::parse`](super::ComputeSystemDocument::parse).
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let _ = text;
        todo!()
    }
}
