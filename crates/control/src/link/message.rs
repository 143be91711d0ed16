//! The messages of a link: calls, their answers, and notices. They are framed as `wire` says; how they travel, and with
//! which descriptors, is in `stream`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::registry::ControlError;
use crate::wire::{Message, Response};

/// Largest message of a link, in bytes, without its length field.
pub const LINK_MESSAGE_LIMIT: usize = 4 << 20;
/// Most descriptors that come with one call.
pub const LINK_DESCRIPTOR_LIMIT: usize = 16;

/// What crosses a link.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkMessage {
    /// Something is to be done and answered.
    Call(LinkCall),
    /// The answer to a call.
    Answer(LinkAnswer),
    /// Something is told.
    Notice(LinkNotice),
}

impl Message for LinkMessage {
    const LIMIT: usize = LINK_MESSAGE_LIMIT;
}

/// Something that is to be done and answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkCall {
    /// What the answer refers to it by; the caller's, and used once while the call is under way.
    pub id: u64,
    /// The command's name.
    pub command: String,
    /// Its arguments; null where the message has none.
    #[serde(default)]
    pub args: Value,
    /// How many descriptors come with it, at most [`LINK_DESCRIPTOR_LIMIT`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub descriptors: u8,
}

/// The answer to a call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkAnswer {
    /// The call's.
    pub id: u64,
    /// What became of it.
    pub result: Response,
}

/// Something that is told and not answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkNotice {
    /// The notice's name.
    pub notice: String,
    /// What belongs to it; null where the message has nothing.
    #[serde(default)]
    pub args: Value,
}

impl LinkAnswer {
    /// What became of the call `id`, ready to be sent.
    pub(super) fn message(id: u64, result: Result<Value, ControlError>) -> LinkMessage {
        let result = match result {
            Ok(value) => Response::Ok(value),
            Err(error) => Response::Error(error),
        };
        LinkMessage::Answer(Self { id, result })
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u8) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire;

    fn text(message: &LinkMessage) -> String {
        String::from_utf8(wire::encode(message).unwrap().split_off(wire::LENGTH_SIZE)).unwrap()
    }

    #[test]
    fn messages_have_one_form() {
        let call = LinkMessage::Call(LinkCall {
            id: 7,
            command: "start".to_owned(),
            args: json!([1]),
            descriptors: 2,
        });
        assert_eq!(
            text(&call),
            r#"{"call":{"id":7,"command":"start","args":[1],"descriptors":2}}"#
        );
        let answer = LinkAnswer::message(7, Ok(Value::Null));
        assert_eq!(text(&answer), r#"{"answer":{"id":7,"result":{"ok":null}}}"#);
        let answer = LinkAnswer::message(8, Err(ControlError::not_found("gone").with_code(-5)));
        assert_eq!(
            text(&answer),
            r#"{"answer":{"id":8,"result":{"error":{"kind":"not-found","message":"gone","code":-5}}}}"#
        );
        let notice = LinkMessage::Notice(LinkNotice {
            notice: "exited".to_owned(),
            args: Value::Null,
        });
        assert_eq!(
            text(&notice),
            r#"{"notice":{"notice":"exited","args":null}}"#
        );
    }
}
