//! The capabilities that VERSION carries as JSON text ("VFIO_USER_VERSION").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::limits;

/// What the specification assumes when a capability is missing.
const DEFAULT_MAX_MSG_FDS: u64 = 1;
const DEFAULT_MAX_DATA_XFER_SIZE: u64 = 1 << 20;
const DEFAULT_MAX_DMA_MAPS: u64 = 65_535;
const DEFAULT_PGSIZES: u64 = 4096;

/// The capabilities of one end. What the other end left out has the specification's default,
/// what it named that we do not know is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Most descriptors that the sender receives in one message.
    #[serde(default = "default_max_msg_fds")]
    pub max_msg_fds: u64,
    /// Most data bytes of one read or write message.
    #[serde(default = "default_max_data_xfer_size")]
    pub max_data_xfer_size: u64,
    /// Most DMA mappings at one time.
    #[serde(default = "default_max_dma_maps")]
    pub max_dma_maps: u64,
    /// Page sizes of DMA mappings, in bytes, or'ed together.
    #[serde(default = "default_pgsizes")]
    pub pgsizes: u64,
    /// The separate socket for commands of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin_socket: Option<TwinSocket>,
    /// Whether REGION_WRITE_MULTI is understood.
    #[serde(default, skip_serializing_if = "is_false")]
    pub write_multiple: bool,
}

/// The `twin_socket` object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinSocket {
    /// Whether the sender supports a twin socket; in a reply, whether there is one.
    #[serde(default)]
    pub supported: bool,
    /// In a reply: which of the message's descriptors it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd_index: Option<u64>,
}

fn default_max_msg_fds() -> u64 {
    DEFAULT_MAX_MSG_FDS
}

fn default_max_data_xfer_size() -> u64 {
    DEFAULT_MAX_DATA_XFER_SIZE
}

fn default_max_dma_maps() -> u64 {
    DEFAULT_MAX_DMA_MAPS
}

fn default_pgsizes() -> u64 {
    DEFAULT_PGSIZES
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Why the text of a VERSION message was not understood.
#[derive(Debug, Error)]
pub enum CapabilitiesError {
    /// There is something after the NUL, or a NUL within.
    #[error("the capabilities of VERSION have a NUL byte before their end")]
    InnerNul,
    /// The text is not JSON of the right shape.
    #[error("the capabilities of VERSION are not what the specification describes: {0}")]
    Json(#[from] serde_json::Error),
    /// `capabilities` or `twin_socket` is not a JSON object.
    #[error("capabilities and twin_socket in VERSION must be JSON objects")]
    NotAnObject,
    /// No data could be transferred.
    #[error("max_data_xfer_size is 0 in VERSION; at least 1 byte is needed")]
    NoTransfer,
}

#[derive(Serialize)]
struct Sent<'a> {
    capabilities: &'a Capabilities,
}

impl Default for Capabilities {
    /// What the specification assumes of an end that says nothing.
    fn default() -> Self {
        Self {
            max_msg_fds: DEFAULT_MAX_MSG_FDS,
            max_data_xfer_size: DEFAULT_MAX_DATA_XFER_SIZE,
            max_dma_maps: DEFAULT_MAX_DMA_MAPS,
            pgsizes: DEFAULT_PGSIZES,
            twin_socket: None,
            write_multiple: false,
        }
    }
}

impl Capabilities {
    /// What this implementation announces: its limits, without a twin socket.
    #[must_use]
    pub fn ours() -> Self {
        Self {
            max_msg_fds: limits::MAX_MESSAGE_FDS as u64,
            max_data_xfer_size: limits::MAX_DATA_TRANSFER as u64,
            max_dma_maps: u64::from(limits::MAX_DMA_MAPS),
            pgsizes: limits::PAGE_SIZE,
            twin_socket: None,
            write_multiple: true,
        }
    }

    /// Reads the text that follows the version numbers: JSON, ended by a NUL that may be
    /// missing, or nothing at all.
    ///
    /// # Errors
    /// When it is not JSON, a capability has the wrong type, or one has an impossible value.
    pub fn parse(text: &[u8]) -> Result<Self, CapabilitiesError> {
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        if text.contains(&0) {
            return Err(CapabilitiesError::InnerNul);
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut received: Map<String, Value> = serde_json::from_slice(text)?;
        let capabilities = match received.remove("capabilities") {
            None | Some(Value::Null) => Self::default(),
            // Arrays would do for structures too, as far as serde is concerned.
            Some(Value::Object(object))
                if !object.get("twin_socket").is_some_and(Value::is_array) =>
            {
                serde_json::from_value(Value::Object(object))?
            }
            Some(_) => return Err(CapabilitiesError::NotAnObject),
        };
        if capabilities.max_data_xfer_size == 0 {
            return Err(CapabilitiesError::NoTransfer);
        }
        Ok(capabilities)
    }

    /// The text that follows the version numbers, with the NUL that ends it.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(&Sent { capabilities: self })
            .expect("numbers and booleans always become JSON");
        text.push(0);
        text
    }

    /// Whether a twin socket is offered or given.
    #[must_use]
    pub fn twin_socket_supported(&self) -> bool {
        self.twin_socket.is_some_and(|twin| twin.supported)
    }

    /// Descriptors that may be sent to this end in one message, at most our own limit.
    #[must_use]
    pub fn message_fds(&self) -> usize {
        usize::try_from(self.max_msg_fds).map_or(limits::MAX_MESSAGE_FDS, |fds| {
            fds.min(limits::MAX_MESSAGE_FDS)
        })
    }

    /// Data bytes that may be asked of this end in one message, at most our own limit.
    #[must_use]
    pub fn data_transfer(&self) -> usize {
        usize::try_from(self.max_data_xfer_size).map_or(limits::MAX_DATA_TRANSFER, |size| {
            size.min(limits::MAX_DATA_TRANSFER)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_at_all_means_the_defaults() {
        let texts: [&[u8]; 6] = [
            b"",
            b"\0",
            b"{}",
            b"{}\0",
            b"{\"capabilities\":{}}\0",
            b"{\"capabilities\":null}\0",
        ];
        for text in texts {
            assert_eq!(
                Capabilities::parse(text).expect("defaults"),
                Capabilities::default()
            );
        }
    }

    #[test]
    fn what_qemu_sends_is_understood() {
        let text =
            br#"{"capabilities": {"migration": {"max_bitmap_size": 268435456, "pgsize": 4096},
            "max_data_xfer_size": 1048576, "max_msg_fds": 16, "max_dma_maps": 65535,
            "pgsizes": 4096, "write_multiple": true, "from the future": [1]}}"#;
        let capabilities = Capabilities::parse(text).expect("QEMU's");
        assert_eq!(capabilities, Capabilities::ours());
    }

    #[test]
    fn wrong_types_are_errors() {
        for text in [
            "[]",
            "7",
            "{",
            r#"{"capabilities": 1}"#,
            r#"{"capabilities": []}"#,
            r#"{"capabilities": {"twin_socket": [true, 0]}}"#,
            r#"{"capabilities": {"max_msg_fds": "8"}}"#,
            r#"{"capabilities": {"max_msg_fds": -1}}"#,
            r#"{"capabilities": {"max_data_xfer_size": 0}}"#,
            r#"{"capabilities": {"twin_socket": true}}"#,
            r#"{"capabilities": {"write_multiple": 1}}"#,
            "{}\0{}",
        ] {
            assert!(Capabilities::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Capabilities::parse(b"\xff\xfe").is_err());
    }

    #[test]
    fn what_we_write_reads_back() {
        let mut ours = Capabilities::ours();
        ours.twin_socket = Some(TwinSocket {
            supported: true,
            fd_index: Some(0),
        });
        let text = ours.to_text();
        assert_eq!(text.last(), Some(&0));
        assert_eq!(Capabilities::parse(&text).expect("ours"), ours);
    }
}
