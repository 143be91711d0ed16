//! Devices made with OpenHDV. They use the public API of the crate `hdv` only, as anybody's would.

mod catalog;
pub mod sensor;

pub use catalog::{CreateError, DeviceKind, Setting, catalog};
