//! The book's page about SR-IOV: how to write a physical function with virtual functions. Its other pages are
//! in [`hdv::book`].
//!
//! Its code is compiled and run by the tests.

// The first definition of a link counts: here that of the page, in the file that of the other file, for who reads it
// elsewhere.
#[doc = "[rust]: ../../../hdv/book/writing_a_device_in_rust/index.html\n"]
#[doc = include_str!("../../../docs/book/sriov.md")]
pub mod a_physical_function_with_virtual_functions {}
