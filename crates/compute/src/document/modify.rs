//! Requests that change a compute system.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::shape::join;
use super::validate::{self, FLEXIBLE_IOV};
use super::{DocumentError, FlexibleIoDevice, hcs, instance_id, read};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The request as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    resource_path: String,
    request_type: RequestType,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<FlexibleIoDevice>,
}

impl ModifyRequest {
    /// The request that plugs a device in.
    #[must_use]
    pub fn add(key: &str, device: FlexibleIoDevice) -> Self {
        Self {
            request_type: RequestType::Add,
            key: key.to_owned(),
            instance_id: instance_id(key),
            device: Some(device),
        }
    }

    /// The request that takes a device out.
    #[must_use]
    pub fn remove(key: &str) -> Self {
        Self {
            request_type: RequestType::Remove,
            key: key.to_owned(),
            instance_id: instance_id(key),
            device: None,
        }
    }

    /// Reads a request: `{"ResourcePath": "VirtualMachine/Devices/FlexibleIov/<key>", "RequestType": "Add" | "Remove",
    /// "Settings": {...}}`. `Settings` of a removal may be there; they are checked and make no difference.
    ///
    /// # Errors
    /// As [`ComputeSystemDocument::parse`](super::ComputeSystemDocument::parse).
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let written: Written = read::read(text, &hcs::MODIFY_REQUEST)?;
        let key = written
            .resource_path
            .strip_prefix(FLEXIBLE_IOV)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| {
                let reason = format!(
                    "{:?} cannot be changed; what can be added and removed is {FLEXIBLE_IOV}/<instance id or name>",
                    written.resource_path
                );
                DocumentError::new("ResourcePath", reason)
            })?;
        validate::name("ResourcePath", key)?;
        if let Some(device) = &written.settings {
            validate::device("Settings", key, device)?;
        }
        let device = match written.request_type {
            RequestType::Remove => None,
            RequestType::Add if written.settings.is_none() => {
                let reason =
                    "it is missing: an Add says there what to add, at least its EmulatorId";
                return Err(DocumentError::new("Settings", reason));
            }
            RequestType::Add => written.settings,
        };
        Ok(Self {
            request_type: written.request_type,
            key: key.to_owned(),
            instance_id: instance_id(key),
            device,
        })
    }

    /// The request's text, which [`Self::parse`] reads.
    #[must_use]
    pub fn to_json(&self) -> String {
        let written = Written {
            resource_path: join(FLEXIBLE_IOV, &self.key),
            request_type: self.request_type,
            settings: self.device.clone(),
        };
        // Strings, a word and an id: nothing that JSON could not take.
        serde_json::to_string(&written).unwrap_or_default()
    }
}
