//! OpenHDV.
#![forbid(unsafe_code)]
