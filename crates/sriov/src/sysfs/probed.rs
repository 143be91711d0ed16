//! What VF BARs read after all ones were written: worked out when a function is opened, from what Linux found when it probed
//! them. Probing anew would disturb a live device.

use std::io;

use super::directory::hidden;
use super::{Capability, SysfsPf, resources};
use crate::error::VirtualizationError;

/// What is known of them.
#[derive(Clone, Debug)]
pub(super) enum ProbedBars {
    /// What they read.
    Known([u32; 6]),
    /// It takes permission to know.
    Hidden,
    /// It cannot be known, and why.
    Unknown(String),
}

impl SysfsPf {
    /// Linux has the range of all VFs in the PF's `resource`, and that of one in the VF's own; the former says more only with
    /// the capability's TotalVFs, which `sriov_totalvfs` may be lower than.
    pub(super) fn find_probed_bars(&self) -> Result<ProbedBars, VirtualizationError> {
        if matches!(self.capability, Capability::None) {
            return Ok(ProbedBars::Hidden);
        }
        let registers = self.registers()?;
        let file = if registers.is_some() {
            "resource"
        } else {
            "virtfn0/resource"
        };
        let Some(rows) = self.rows(file)? else {
            return Ok(match registers {
                Some(_) => ProbedBars::Unknown("it is not there".to_owned()),
                None => ProbedBars::Hidden,
            });
        };
        let probed = match registers {
            Some(registers) => resources::of_pf(&rows, registers.vf_bars, registers.total_vfs),
            None => resources::of_vf(&rows),
        };
        Ok(probed.map_or_else(ProbedBars::Unknown, ProbedBars::Known))
    }

    pub(super) fn known_probed_bars(&self) -> Result<[u32; 6], VirtualizationError> {
        match &self.probed_bars {
            ProbedBars::Known(bars) => Ok(*bars),
            ProbedBars::Hidden => Err(hidden(self.directory.path("config"))),
            ProbedBars::Unknown(reason) => Err(VirtualizationError::Refused {
                path: self.directory.path("resource"),
                source: io::ErrorKind::InvalidData.into(),
                reason: Some(reason.clone()),
            }),
        }
    }
}
