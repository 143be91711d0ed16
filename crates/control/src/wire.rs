//! Framing of control messages: a length of four bytes, little endian, then that many bytes of
//! JSON. A request is `{"command": name, "args": value}`, a response `{"ok": value}` or
//! `{"error": {"kind": ..., "message": ...}}`. What crosses a [`Link`](crate::Link) is a [`LinkMessage`]:
//! `{"call": {"id": ..., "command": name, "args": value}}`, `{"answer": {"id": ..., "result": response}}` or
//! `{"notice": {"notice": name, "args": value}}`.
//!
//! Bytes in, messages out: nothing here reads or writes a stream. [`crate::Client`], [`crate::ControlServer`] and
//! [`crate::Link`] do.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use crate::link::{
    LINK_DESCRIPTOR_LIMIT, LINK_MESSAGE_LIMIT, LinkAnswer, LinkCall, LinkMessage, LinkNotice,
};
use crate::registry::ControlError;

/// Largest request, in bytes, without its length field.
pub const REQUEST_LIMIT: usize = 4 << 20;
/// Largest response, in bytes, without its length field. A list of 65536 devices fits: a physical
/// function and all virtual functions that it can have.
pub const RESPONSE_LIMIT: usize = 32 << 20;
/// Size of the length field, in bytes.
pub const LENGTH_SIZE: usize = 4;

/// [`Request`], [`Response`] or [`LinkMessage`].
pub trait Message: Serialize + DeserializeOwned {
    /// Most bytes of one, without its length field.
    const LIMIT: usize;
}

impl Message for Request {
    const LIMIT: usize = REQUEST_LIMIT;
}

impl Message for Response {
    const LIMIT: usize = RESPONSE_LIMIT;
}

/// What a client asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The command's name.
    pub command: String,
    /// Its arguments; null where the message has none.
    #[serde(default)]
    pub args: Value,
}

/// What a server answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// The command's result.
    Ok(Value),
    /// Why there is none.
    Error(ControlError),
}

/// A message that breaks the framing or is not what it should be.
#[derive(Debug, Error)]
pub enum WireError {
    /// The message is larger than either end accepts.
    #[error("a control message of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        length: u64,
        /// The most that there may be.
        limit: usize,
    },
    /// The frame is cut off, or something follows it.
    #[error("a control message has {length} bytes with its length field, which says otherwise")]
    Incomplete {
        /// The bytes there are.
        length: usize,
    },
    /// The message is not the JSON that was expected.
    #[error("a control message cannot be understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// A message with its length before it.
///
/// # Errors
/// The message is over its [`LIMIT`](Message::LIMIT), or it cannot be written as JSON.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, WireError> {
    let mut frame = vec![0; LENGTH_SIZE];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - LENGTH_SIZE;
    let field = u32::try_from(length)
        .ok()
        .filter(|_| length <= M::LIMIT)
        .ok_or(WireError::TooLong {
            length: length as u64,
            limit: M::LIMIT,
        })?;
    frame[..LENGTH_SIZE].copy_from_slice(&field.to_le_bytes());
    Ok(frame)
}

/// The size of the whole frame that starts with `bytes`, in bytes; `None` while the length
/// field is not complete.
///
/// # Errors
/// The message that follows is over its [`LIMIT`](Message::LIMIT).
pub fn frame_size<M: Message>(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(field) = bytes.first_chunk::<LENGTH_SIZE>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*field);
    match usize::try_from(length) {
        Ok(length) if length <= M::LIMIT => Ok(Some(LENGTH_SIZE + length)),
        _ => Err(WireError::TooLong {
            length: length.into(),
            limit: M::LIMIT,
        }),
    }
}

/// The message of a whole frame.
///
/// # Errors
/// The frame is not as long as it says, or its message is not the JSON that was expected.
pub fn decode<M: Message>(frame: &[u8]) -> Result<M, WireError> {
    match frame_size::<M>(frame)? {
        Some(size) if size == frame.len() => Ok(serde_json::from_slice(&frame[LENGTH_SIZE..])?),
        _ => Err(WireError::Incomplete {
            length: frame.len(),
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
        assert_eq!(frame_size::<Request>(&frame).unwrap(), Some(frame.len()));

        let ok = encode(&Response::Ok(json!(7))).unwrap();
        assert_eq!(&ok[4..], br#"{"ok":7}"#);
        let error = ControlError::bad_arguments("no such device");
        let frame = encode(&Response::Error(error)).unwrap();
        let expected = br#"{"error":{"kind":"bad-arguments","message":"no such device"}}"#;
        assert_eq!(&frame[4..], expected);
    }

    #[test]
    fn only_whole_frames_are_decoded() {
        let frame = encode(&Response::Ok(json!([1, null]))).unwrap();
        let Response::Ok(value) = decode(&frame).unwrap() else {
            panic!("an error out of {frame:?}");
        };
        assert_eq!(value, json!([1, null]));
        for length in 0..frame.len() {
            let cut = decode::<Response>(&frame[..length]);
            assert!(matches!(cut, Err(WireError::Incomplete { .. })), "{length}");
        }
        let longer = [frame.as_slice(), b" "].concat();
        let longer = decode::<Response>(&longer);
        assert!(matches!(longer, Err(WireError::Incomplete { .. })));
        assert!(matches!(decode::<Request>(&frame), Err(WireError::Json(_))));
    }

    #[test]
    fn nesting_is_bounded() {
        let message = format!("{{\"ok\":{}", "[".repeat(1 << 20));
        let length = u32::try_from(message.len()).unwrap();
        let frame = [&length.to_le_bytes(), message.as_bytes()].concat();
        assert!(matches!(
            decode::<Response>(&frame),
            Err(WireError::Json(_))
        ));
    }

    #[test]
    fn the_limit_is_exact() {
        fn at<M: Message>(length: usize) -> Result<Option<usize>, WireError> {
            frame_size::<M>(&u32::try_from(length).unwrap().to_le_bytes())
        }
        assert!(at::<Request>(REQUEST_LIMIT).unwrap().is_some());
        assert!(at::<Request>(REQUEST_LIMIT + 1).is_err());
        assert!(at::<Response>(RESPONSE_LIMIT).unwrap().is_some());
        assert!(at::<Response>(RESPONSE_LIMIT + 1).is_err());
        assert_eq!(frame_size::<Request>(&[0xff; 3]).unwrap(), None);
        let around = r#"{"ok":""}"#.len();
        let response = |length| Response::Ok("x".repeat(length).into());
        assert!(encode(&response(RESPONSE_LIMIT - around)).is_ok());
        assert!(encode(&response(RESPONSE_LIMIT - around + 1)).is_err());
    }
}
