//! Devices made with OpenHDV.

pub mod sensor;
