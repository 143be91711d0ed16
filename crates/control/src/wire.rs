//! Framing of control messages: a length of four bytes, little endian, then that many bytes of
//! JSON. A request is `{"command": name, "args": value}`, a response `{"ok": value}` or
//! `{"error": {"kind": ..., "message": ...}}`.
//!
//! Reading and writing here never blocks longer than the stream does; deadlines belong to
//! [`crate::client`] and [`crate::server`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::registry::ControlError;

/// Largest message, in bytes, without its length field. A list of thousands of devices fits.
pub const MESSAGE_LIMIT: usize = 4 << 20;
/// Size of the length field, in bytes.
pub(crate) const LENGTH_SIZE: usize = 4;

/// What a client asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) command: String,
    #[serde(default)]
    pub(crate) args: Value,
}

/// What a server answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Response {
    Ok(Value),
    Error(ControlError),
}

/// A message that breaks the framing or is not what it should be.
#[derive(Debug, Error)]
pub enum WireError {
    /// The message is larger than either end accepts.
    #[error("a control message of {length} bytes is over the limit of {MESSAGE_LIMIT}")]
    TooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// The message is not the JSON that was expected.
    #[error("a control message cannot be understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// A message with its length before it.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let mut frame = vec![0; LENGTH_SIZE];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - LENGTH_SIZE;
    let field = u32::try_from(length)
        .ok()
        .filter(|_| length <= MESSAGE_LIMIT)
        .ok_or(WireError::TooLong {
            length: length as u64,
        })?;
    frame[..LENGTH_SIZE].copy_from_slice(&field.to_le_bytes());
    Ok(frame)
}

/// The size of the whole frame that starts with `bytes`, in bytes; `None` while the length
/// field is not complete.
pub(crate) fn frame_size(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(field) = bytes.first_chunk::<LENGTH_SIZE>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*field);
    match usize::try_from(length) {
        Ok(length) if length <= MESSAGE_LIMIT => Ok(Some(LENGTH_SIZE + length)),
        _ => Err(WireError::TooLong {
            length: length.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_have_the_documented_form() {
        let request = Request {
            command: "list".to_owned(),
            args: json!({"a": 1}),
        };
        let frame = encode(&request).unwrap();
        assert_eq!(frame[..4], 33_u32.to_le_bytes());
        assert_eq!(&frame[4..], br#"{"command":"list","args":{"a":1}}"#);
        assert_eq!(frame_size(&frame).unwrap(), Some(frame.len()));

        let ok = encode(&Response::Ok(json!(7))).unwrap();
        assert_eq!(&ok[4..], br#"{"ok":7}"#);
        let error = ControlError::bad_arguments("no such device");
        let frame = encode(&Response::Error(error)).unwrap();
        let expected = br#"{"error":{"kind":"bad-arguments","message":"no such device"}}"#;
        assert_eq!(&frame[4..], expected);
    }

    #[test]
    fn the_limit_is_exact() {
        let at = u32::try_from(MESSAGE_LIMIT).unwrap();
        assert!(frame_size(&at.to_le_bytes()).unwrap().is_some());
        assert!(frame_size(&(at + 1).to_le_bytes()).is_err());
        assert_eq!(frame_size(&[0xff; 3]).unwrap(), None);
        // Two quotation marks belong to the string.
        assert!(encode(&"x".repeat(MESSAGE_LIMIT - 2)).is_ok());
        assert!(encode(&"x".repeat(MESSAGE_LIMIT - 1)).is_err());
    }
}
