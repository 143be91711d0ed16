//! The book: how to write a device, in Rust and in C, how to bring one from Windows, and how to put many into one.
//!
//! Its code is compiled and run by the tests: the Rust blocks here, the C blocks with the C library.

#[doc = include_str!("../../../docs/book/rust.md")]
pub mod writing_a_device_in_rust {}

#[doc = include_str!("../../../docs/book/c.md")]
pub mod writing_a_device_in_c {}

// The first definition of a link counts: here that of the page, in the file that of the other file, for who reads it
// elsewhere.
#[doc = "[compute]: ../../../hdv_compute/book/compute_systems/index.html\n"]
#[doc = include_str!("../../../docs/book/porting.md")]
pub mod bringing_a_device_host_from_windows {}

#[doc = include_str!("../../../docs/book/domain.md")]
pub mod a_whole_pcie_hierarchy {}
