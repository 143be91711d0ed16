//! OpenHDV.
