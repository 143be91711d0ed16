//! Tests of the crate through its public interface.

mod bars;
mod bridge;
mod capabilities;
mod common;
mod enumerate;
mod enumerate_model;
mod errors;
mod header;
mod hostile;
mod lists;
mod machine;
mod model;
mod msix_table;
mod port_model;
mod reference;
mod refused;
mod routing;
mod shapes;
mod slots;
mod sriov;
mod sriov_model;
mod topology;
mod topology_errors;
mod topology_places;
mod vf_config;
