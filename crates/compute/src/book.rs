//! The book's page about compute systems. Its other pages are in [`hdv::book`].
//!
//! Its code is compiled, and its documents read, by the tests.

// The first definition of a link counts: here that of the page, in the file that of the other file, for who reads it
// elsewhere.
#[doc = "[porting]: ../../../hdv/book/bringing_a_device_host_from_windows/index.html\n"]
#[doc = include_str!("../../../docs/book/compute.md")]
pub mod compute_systems {}

#[cfg(test)]
mod tests {
    use crate::document::{ComputeSystemDocument, ModifyRequest, RequestType};

    const PAGE: &str = include_str!("../../../docs/book/compute.md");

    /// The blocks of a language.
    fn blocks(language: &str) -> Vec<&'static str> {
        let start = format!("```{language}\n");
        let rest = PAGE.split(start.as_str()).skip(1);
        rest.map(|rest| rest.split("```").next().unwrap()).collect()
    }

    #[test]
    fn its_documents_are_documents() {
        let [document, request] = blocks("json")[..] else {
            panic!("a document and a request");
        };
        let document = ComputeSystemDocument::parse(document).unwrap();
        let devices = &document.virtual_machine.devices.flexible_iov;
        let device = &devices["thermometer"];
        let kind = hdv_devices::by_class(device.emulator_id).unwrap();
        let mut made = kind.configured().unwrap();
        made.set_configuration(&device.configuration).unwrap();
        let request = ModifyRequest::parse(request).unwrap();
        assert_eq!(request.request_type, RequestType::Add);
        assert_eq!(request.key, "thermometer-2");
    }
}
