//! What is checked of a VF of the SR-IOV sensor beyond what is checked of every sensor.

pub mod gone;
pub mod quota;
