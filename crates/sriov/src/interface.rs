//! [`PciVirtualization`], the six routines of `PCI_VIRTUALIZATION_INTERFACE`.

use std::fmt;

use hdv::pci::RoutingId;

use crate::error::VirtualizationError;

/// Where a VF is. Buses can be renumbered: never keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The segment; on Linux, the domain, which can be above 0xffff.
    pub segment: u32,
    /// Bus and function number; the function number is that of ARI, 0 to 255.
    pub routing_id: RoutingId,
}

/// What is asked of VFs and their migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnableVirtualization {
    /// How many VFs: 1 to TotalVFs to enable, 0 to disable.
    pub num_vfs: u16,
    /// VF Migration Enable.
    pub vf_migration: bool,
    /// VF Migration Interrupt Enable.
    pub migration_interrupt: bool,
    /// VF Enable.
    pub enable: bool,
}

impl EnableVirtualization {
    /// Enables VFs, without migration.
    #[must_use]
    pub const fn enable(num_vfs: u16) -> Self {
        Self {
            num_vfs,
            vf_migration: false,
            migration_interrupt: false,
            enable: true,
        }
    }

    /// Disables VFs.
    #[must_use]
    pub const fn disable() -> Self {
        Self {
            num_vfs: 0,
            vf_migration: false,
            migration_interrupt: false,
            enable: false,
        }
    }
}

impl EnableVirtualization {
    /// Checks the parameters for a device with `total_vfs` VFs at most, which has VF migration or not; its state
    /// is checked after that.
    ///
    /// # Errors
    /// As [`PciVirtualization::enable_virtualization`].
    pub(crate) fn check(self, total_vfs: u16, migration: bool) -> Result<(), VirtualizationError> {
        let num_vfs = self.num_vfs;
        if self.enable && (num_vfs == 0 || num_vfs > total_vfs) {
            return Err(VirtualizationError::NumVfs { num_vfs, total_vfs });
        }
        if !self.enable && num_vfs != 0 {
            return Err(VirtualizationError::NumVfsNotZero { num_vfs });
        }
        if self.migration_interrupt && !self.vf_migration {
            return Err(VirtualizationError::MigrationInterrupt);
        }
        if self.vf_migration && !migration {
            return Err(VirtualizationError::Migration);
        }
        Ok(())
    }
}

/// What a PF lets be done with its VFs. VFs are counted from 0.
///
/// Parameters are checked before state; but once the device is gone every routine says
/// [`VirtualizationError::Gone`] whatever is asked. Routines may be called from any thread. From inside a call into a
/// device of the same host those that would wait for it fail with [`VirtualizationError::InsideCall`].
pub trait PciVirtualization: fmt::Debug + Send + Sync {
    /// Reads a VF's own config space (9.3.4) from `offset` on. Returns how many bytes of `data` were filled: those
    /// up to byte 4096, the end.
    ///
    /// # Errors
    /// No such VF now; `offset` is 4096 or more, or `data` empty; the VF failed. In C: 0 bytes.
    fn virtual_function_data(
        &self,
        vf: u16,
        offset: u32,
        data: &mut [u8],
    ) -> Result<usize, VirtualizationError>;

    /// Writes a VF's own config space, as for [`virtual_function_data`](Self::virtual_function_data).
    ///
    /// # Errors
    /// As there.
    fn set_virtual_function_data(
        &self,
        vf: u16,
        offset: u32,
        data: &[u8],
    ) -> Result<usize, VirtualizationError>;

    /// Where a VF is or, while it is not enabled, would be.
    ///
    /// # Errors
    /// `vf` is TotalVFs or more, so also without SR-IOV; it is not enabled, of a real PF that leaves First VF Offset and
    /// VF Stride open until VFs are.
    fn location(&self, vf: u16) -> Result<Location, VirtualizationError>;

    /// How many buses are captured for the PF beyond its own: subordinate minus secondary bus number of the port
    /// above. 0 once the device is gone, and for a device without SR-IOV.
    fn captured_buses(&self) -> u8;

    /// Writes NumVFs and sets or clears VF Enable; nothing else changes.
    ///
    /// # Errors
    /// Enabling with NumVFs 0 or above TotalVFs, disabling with another than 0, the migration interrupt without migration,
    /// migration where the device has none; then the state asked for is there already.
    fn enable_virtualization(
        &self,
        request: EnableVirtualization,
    ) -> Result<(), VirtualizationError>;

    /// What each VF BAR of the capability read after all ones were written to it, when the device was found.
    ///
    /// # Errors
    /// The device has no SR-IOV.
    fn probed_bars(&self) -> Result<[u32; 6], VirtualizationError>;
}
