//! Drives OpenHDV's devices as their user does: from a program in a Linux guest, or outside
//! one over a vfio-user connection.
//!
//! Drivers are written over two traits, [`platform::BarAccess`] and [`platform::Platform`], and
//! so are the [`checks`] that say whether a device keeps what its registers promise; [`families`]
//! lists the kinds of devices that are checked. What the program prints is in [`report`]; what it
//! does as a guest's first process in [`init`].
//!
//! Nothing here knows how a device is emulated.

pub mod ask;
pub mod camera;
pub mod checks;
pub mod checksum;
pub mod counting;
pub mod domain;
pub mod families;
pub mod family;
pub mod framebuffer;
pub mod greeter;
pub mod image;
pub mod init;
pub mod lab;
pub mod outside;
pub mod platform;
pub mod report;
pub mod rescan;
pub mod sensor;
pub mod sriov;

#[cfg(test)]
mod model;
