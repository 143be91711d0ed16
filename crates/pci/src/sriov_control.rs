//! SR-IOV from the side of whoever holds the PF: what the registers say, and enabling and disabling
//! by the same writes that software on the bus makes.

use crate::capability::SriovView;
use crate::config_space::ConfigSpace;
use crate::effects::Effects;
use crate::spec::sriov::{CONTROL, LENGTH, NUM_VFS, SriovControl};

/// VFs that cannot be enabled or disabled. Parameters are checked before state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SriovError {
    /// The function has no SR-IOV capability.
    #[error("the function has no SR-IOV capability")]
    NotCapable,
    /// The number of VFs is 0 or above TotalVFs.
    #[error("{num_vfs} VFs cannot be enabled: 1 to {total_vfs} are possible")]
    NumVfs {
        /// The number asked for.
        num_vfs: u16,
        /// The most there can be.
        total_vfs: u16,
    },
    /// VF Enable is set.
    #[error("{num_vfs} VFs are enabled already; disable them first")]
    AlreadyEnabled {
        /// How many.
        num_vfs: u16,
    },
    /// VF Enable is clear.
    #[error("VFs are disabled already")]
    AlreadyDisabled,
}

impl ConfigSpace {
    /// The SR-IOV capability; `None` without one.
    #[must_use]
    pub fn sriov(&self) -> Option<SriovView> {
        Some(SriovView::read(&self.registers, self.places.sriov?))
    }

    /// Writes NumVFs and sets VF Enable, nothing else: VF MSE stays as it is.
    ///
    /// # Errors
    /// No SR-IOV; a number other than 1 to TotalVFs; VF Enable is set already.
    pub fn enable_vfs(&mut self, num_vfs: u16) -> Result<Effects, SriovError> {
        let (base, view) = self.sriov_at()?;
        let total_vfs = view.total_vfs;
        if num_vfs == 0 || num_vfs > total_vfs {
            return Err(SriovError::NumVfs { num_vfs, total_vfs });
        }
        if view.vf_enable {
            let num_vfs = view.num_vfs;
            return Err(SriovError::AlreadyEnabled { num_vfs });
        }
        let effects = self.write(base + NUM_VFS, &num_vfs.to_le_bytes());
        Ok(effects | self.set_vf_enable(base, true))
    }

    /// Clears VF Enable and writes 0 to NumVFs, nothing else: VF MSE stays as it is.
    ///
    /// # Errors
    /// No SR-IOV; VF Enable is clear already.
    pub fn disable_vfs(&mut self) -> Result<Effects, SriovError> {
        let (base, view) = self.sriov_at()?;
        if !view.vf_enable {
            return Err(SriovError::AlreadyDisabled);
        }
        let effects = self.set_vf_enable(base, false);
        Ok(effects | self.write(base + NUM_VFS, &[0; 2]))
    }

    /// Software that may not control SR-IOV writes `data` at `offset`: as
    /// [`write`](ConfigSpace::write), but the SR-IOV capability stays as it is. Resets that
    /// software can ask for still disable VFs.
    pub fn write_without_sriov(&mut self, offset: u16, data: &[u8]) -> Effects {
        let base = self.places.sriov;
        self.write_bits(offset, data, |word| match base {
            Some(base) if (base..base + LENGTH).contains(&word) => 0,
            _ => u32::MAX,
        })
    }

    fn sriov_at(&self) -> Result<(u16, SriovView), SriovError> {
        let base = self.places.sriov.ok_or(SriovError::NotCapable)?;
        Ok((base, SriovView::read(&self.registers, base)))
    }

    fn set_vf_enable(&mut self, base: u16, enable: bool) -> Effects {
        let bit = u32::from(SriovControl::VF_ENABLE.bits());
        self.write_word(base + CONTROL, bit, if enable { bit } else { 0 })
    }
}
