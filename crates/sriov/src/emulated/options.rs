//! How a PF is created, and why it could not be.

use hdv::HostError;
use hdv::domain::DomainError;
use hdv::pci::VfRouting;

use super::{Placement, PlacementError};

/// How a PF is created.
#[derive(Clone, Copy, Debug)]
pub struct PfOptions {
    /// Where it is.
    pub placement: Placement,
    /// Where its VFs are from there; [packed](VfRouting::packed) behind it if `None`.
    pub routing: Option<VfRouting>,
    /// The VM that has the PF enables and disables VFs by writing its SR-IOV registers, and its resets disable them.
    /// If `false`, neither has any effect on them: VFs belong to whoever holds the [`EmulatedPf`](crate::EmulatedPf).
    pub guest_controls_sriov: bool,
}

impl PfOptions {
    /// VFs packed behind the PF, out of its VM's control.
    #[must_use]
    pub const fn new(placement: Placement) -> Self {
        Self {
            placement,
            routing: None,
            guest_controls_sriov: false,
        }
    }
}

/// A PF that cannot be created. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PfError {
    /// Its place has no room for its VFs.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// It can have no VFs.
    #[error(
        "TotalVFs is 0: a PF has 1 to 65535 VFs; a device without any is served as a plain one"
    )]
    NoVfs,
    /// The host cannot have it, or what its VFs look like is wrong.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The domain cannot have it.
    #[error(transparent)]
    Domain(#[from] DomainError),
}
