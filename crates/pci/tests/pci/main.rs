//! Tests of the crate through its public interface.

mod bars;
mod bridge;
mod capabilities;
mod common;
mod header;
mod lists;
mod model;
mod msix_table;
mod refused;
mod routing;
mod sriov;
mod sriov_model;
mod vf_config;
