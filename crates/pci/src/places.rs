//! Where the capabilities are that the accessors of a config space read.

use crate::config_space::ConfigSpace;
use crate::port_view::{PortKind, port_kind};
use crate::registers::halves;
use crate::spec::extended::extended_capability_id;
use crate::spec::{aer, capability_id, express};

/// Offsets of the capabilities that the accessors read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    pub(crate) msi: Option<u16>,
    pub(crate) msix: Option<u16>,
    pub(crate) power: Option<u16>,
    pub(crate) express: Option<u16>,
    /// The PCI Express capability of a port that has a link below.
    pub(crate) link: Option<u16>,
    pub(crate) sriov: Option<u16>,
    pub(crate) aer: Option<u16>,
    /// Advanced error reporting of a root port.
    pub(crate) root_errors: Option<u16>,
}

impl Places {
    pub(crate) fn of(config: &ConfigSpace) -> Self {
        let express = config.capability(capability_id::PCI_EXPRESS);
        let kind = express.and_then(|base| {
            let word = config.registers.load(base + express::CAPABILITIES);
            port_kind(halves(word)[1])
        });
        let aer = config.extended_capability(extended_capability_id::ADVANCED_ERROR_REPORTING);
        let long = |aer: &u16| {
            let mut placed = config.capabilities.iter();
            placed.any(|placed| placed.offset == *aer && placed.length >= aer::ROOT_LENGTH)
        };
        Self {
            msi: config.capability(capability_id::MSI),
            msix: config.capability(capability_id::MSIX),
            power: config.capability(capability_id::POWER_MANAGEMENT),
            express,
            link: express.filter(|_| kind.is_some_and(PortKind::has_link_below)),
            sriov: config.extended_capability(extended_capability_id::SRIOV),
            aer,
            root_errors: aer.filter(|aer| kind == Some(PortKind::Root) && long(aer)),
        }
    }
}
