//! Documents and requests from any text: read or refused, and what is read survives being written.

#![no_main]

use std::path::Path;

use hdv_compute::document::{ComputeSystemDocument, ModifyRequest, expand};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    look(text);
    look(&expand(text, Path::new("/a \"b\"")));
});

fn look(text: &str) {
    match ComputeSystemDocument::parse(text) {
        Ok(document) => {
            let again = serde_json::to_string(&document).expect("a document can be written");
            let again = ComputeSystemDocument::parse(&again).expect("what we write can be read");
            assert_eq!(again, document);
        }
        Err(error) => assert!(!error.reason.is_empty()),
    }
    if let Ok(request) = ModifyRequest::parse(text) {
        let again = ModifyRequest::parse(&request.to_json()).expect("what we write can be read");
        assert_eq!(
            (again.instance_id, again.device),
            (request.instance_id, request.device)
        );
    }
}
