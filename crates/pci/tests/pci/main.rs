//! Tests of the crate through its public interface.

mod bars;
mod bridge;
mod capabilities;
mod common;
mod enumerate;
mod errors;
mod header;
mod lists;
mod machine;
mod model;
mod msix_table;
mod port_model;
mod refused;
mod routing;
mod shapes;
mod slots;
mod sriov;
mod sriov_model;
mod vf_config;
