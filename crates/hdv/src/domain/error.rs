//! What a domain refuses.

use hdv_pci::ConfigError;
use hdv_pci::topology::TopologyError;

use crate::error::HostError;

/// Why a domain could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// A size that a domain cannot have.
    #[error("a domain cannot have {value} {what}: a power of two from {low} to {high} is possible")]
    Size {
        /// Of what.
        what: &'static str,
        /// The size.
        value: u64,
        /// The smallest.
        low: u64,
        /// The largest.
        high: u64,
    },
    /// A number of vectors that the endpoint cannot have.
    #[error("an endpoint cannot have {0} vectors: 2 to 256 are possible")]
    Vectors(u64),
    /// The place in the hierarchy cannot be had.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The description of a port or of the endpoint is wrong.
    #[error("the port cannot be made: {0}")]
    Config(#[from] ConfigError),
    /// The function.
    #[error("{name:?}: {source}")]
    Function {
        /// Its name.
        name: String,
        /// What was wrong.
        source: HostError,
    },
    /// The endpoint was removed, and all that was in the domain with it.
    #[error("the domain's endpoint is gone")]
    Closed,
    /// Waiting for a call into a function of the domain to end inside such a call.
    #[error(
        "this would wait for a call into a function of this domain, and was asked for from inside one: do it from \
         another thread"
    )]
    InsideCall,
}
