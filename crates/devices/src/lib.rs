//! Devices made with OpenHDV. They use the public API of the crates `hdv` and `hdv_sriov` only, as
//! anybody's would.

mod catalog;
pub mod domain;
pub mod sensor;
pub mod sriov_sensor;
mod text_file;

pub use catalog::{
    CreateError, Created, DeviceKind, NoSuchKind, Setting, by_class, by_name, catalog,
};
pub use text_file::read_text;
