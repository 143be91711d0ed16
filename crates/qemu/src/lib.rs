//! Find, fetch, try and drive QEMU and guest kernels.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`cache`] | the user's cache directory: what was fetched stays here |
//! | [`bundle`] | named sets of Debian packages: QEMU, guest kernels, test tools |
//! | [`fetch`] | brings bundles into the cache, without root and without installing anything |
//! | [`firmware`] | UEFI firmware for a machine |
//! | [`locate`] | a QEMU that has `vfio-user-pci`: the one named, one in `PATH`, one in the cache |
//! | [`kernel`] | a guest kernel and its modules |
//! | [`initramfs`] | the guest's first file system |
//! | [`lab`] | a folder with a kernel, an initramfs and a disk to try devices in |
//! | [`machine`] | QEMU's command line |
//! | [`accelerator`] | how QEMU runs a guest's processors |
//! | [`trial`] | which accelerator boots a kernel here, tried and not guessed |
//! | [`qmp`] | QEMU's control socket |
//! | [`unplug`] | what taking vfio-user devices out of a running QEMU needs |
//! | [`guest`] | a running QEMU: its serial lines, its errors, its end |
//! | [`child`] | child processes that die with this one |
//! | [`doctor`] | what this machine can run and what is missing, as data |
//!
//! Not here: the state of a compute system (`compute` has it), what runs inside the guest
//! (`guest`), and any printing: progress and reports are values, their looks belong to callers.
//!
//! ```
//! use hdv_qemu::accelerator::Accelerator;
//! use hdv_qemu::machine::{Machine, VfioUserDevice};
//!
//! let machine = Machine::new(Accelerator::Tcg)
//!     .memory_mib(256)
//!     .device(VfioUserDevice::new("/run/user/1000/sensor.sock"));
//! let arguments = machine.arguments()?;
//! assert!(arguments.iter().any(|argument| argument.to_string_lossy().contains("vfio-user-pci")));
//! # Ok::<(), hdv_qemu::Error>(())
//! ```

pub mod accelerator;
mod apt;
pub mod bundle;
pub mod cache;
pub mod child;
mod deadline;
pub mod doctor;
mod error;
pub mod fetch;
pub mod firmware;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod lab;
pub mod locate;
pub mod machine;
mod probe_init;
pub mod program;
pub mod qmp;
pub mod trial;
pub mod unplug;
pub mod version;

pub use error::{Error, Result};
