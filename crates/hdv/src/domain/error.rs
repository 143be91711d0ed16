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
    /// A name that nothing can have.
    #[error(
        "{name:?} is no name for what is in a domain: choose 1 to 64 characters without '/' and control characters that are \
         no device and function number (such as 01.0)"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A name that something else has.
    #[error("{name:?} is the name of something else in the domain: choose another")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A name that another domain of the host has.
    #[error("this host has another domain {name:?}: choose another name")]
    Published {
        /// The name.
        name: String,
    },
    /// Nothing is at a place.
    #[error(
        "there is no port and no function at {place:?} in the domain: give a name, or device and function number of each port \
         on the way, then its own (such as 01.0/00.0)"
    )]
    NoSuchPlace {
        /// The place.
        place: String,
    },
    /// What a port or function cannot have happen to it.
    #[error("{place}: {reason}")]
    Injection {
        /// Its name, in quotes, or its place.
        place: String,
        /// Why not, and what can be done.
        reason: &'static str,
    },
    /// What cannot be done with a port's slot.
    #[error("{place}: {reason}")]
    Slot {
        /// The port's name, in quotes, or its place.
        place: String,
        /// Why not, and what can be done.
        reason: &'static str,
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
