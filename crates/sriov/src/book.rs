//! The book's page about SR-IOV: how to write a physical function with virtual functions. Its other pages are
//! in [`hdv::book`].
//!
//! Its code is compiled and run by the tests.

#[doc = include_str!("../../../docs/book/sriov.md")]
pub mod a_physical_function_with_virtual_functions {}
