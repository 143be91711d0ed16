//! The HDV functions with the C ABI.
