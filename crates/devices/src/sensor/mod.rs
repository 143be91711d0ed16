//! The sensor, the tutorial device.

pub mod registers;
