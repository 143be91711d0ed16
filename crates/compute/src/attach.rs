//! A compute system as an [`hdv::System`]: a device host that attaches registers with the worker and does as it says.
