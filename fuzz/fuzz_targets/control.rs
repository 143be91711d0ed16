//! Control messages from any bytes: requests as a server reads them, responses as a client does, a link's messages as either
//! end does.

#![no_main]

use hdv_control::wire::{self, LENGTH_SIZE, LinkMessage, Message, Request, Response};
use libfuzzer_sys::fuzz_target;

// The bytes as a frame of their own, and the bytes as a message whose length is right.
fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    if let Ok(length) = u32::try_from(bytes.len()) {
        look(&[&length.to_le_bytes(), bytes].concat());
    }
});

fn look(frame: &[u8]) {
    let whole = is_whole::<Request>(frame);
    if let Ok(request) = wire::decode::<Request>(frame) {
        assert!(whole, "no message out of a part");
        let Ok(again) = wire::encode(&request) else {
            return;
        };
        let again = wire::decode::<Request>(&again).expect("what we write can be read");
        assert_eq!(again.command, request.command);
    }
    let whole = is_whole::<Response>(frame);
    if let Ok(response) = wire::decode::<Response>(frame) {
        assert!(whole, "no message out of a part");
        let Ok(again) = wire::encode(&response) else {
            return;
        };
        let again = wire::decode::<Response>(&again).expect("what we write can be read");
        match (response, again) {
            (Response::Error(error), Response::Error(again)) => assert_eq!(again, error),
            (Response::Ok(_), Response::Ok(_)) => {}
            (response, again) => panic!("{response:?} became {again:?}"),
        }
    }
    let whole = is_whole::<LinkMessage>(frame);
    if let Ok(message) = wire::decode::<LinkMessage>(frame) {
        assert!(whole, "no message out of a part");
        let Ok(again) = wire::encode(&message) else {
            return;
        };
        let again = wire::decode::<LinkMessage>(&again).expect("what we write can be read");
        match (message, again) {
            (LinkMessage::Call(call), LinkMessage::Call(again)) => assert_eq!(
                (again.id, again.command, again.descriptors),
                (call.id, call.command, call.descriptors)
            ),
            (LinkMessage::Answer(answer), LinkMessage::Answer(again)) => {
                assert_eq!(again.id, answer.id);
            }
            (LinkMessage::Notice(notice), LinkMessage::Notice(again)) => {
                assert_eq!(again.notice, notice.notice);
            }
            (message, again) => panic!("{message:?} became {again:?}"),
        }
    }
}

fn is_whole<M: Message>(frame: &[u8]) -> bool {
    let size = wire::frame_size::<M>(frame);
    match &size {
        Ok(Some(size)) => assert!((LENGTH_SIZE..=LENGTH_SIZE + M::LIMIT).contains(size)),
        Ok(None) => assert!(frame.len() < LENGTH_SIZE),
        Err(_) => assert!(frame.len() >= LENGTH_SIZE),
    }
    size.is_ok_and(|size| size == Some(frame.len()))
}
