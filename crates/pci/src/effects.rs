//! What a write to config space asks its owner to act on.

use bitflags::bitflags;

bitflags! {
    /// What a write to config space changed beyond the registers themselves.
    ///
    /// Bits say that something is to be looked at again; the accessors of
    /// [`ConfigSpace`](crate::ConfigSpace) tell the new state.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    #[must_use = "the owner has to act on what a write changed"]
    pub struct Effects: u32 {
        /// The function is to be reset, by
        /// [`function_level_reset`](crate::ConfigSpace::function_level_reset) and whatever
        /// stands behind it: Initiate Function Level Reset was written, or the function went from
        /// D3hot to D0 without No Soft Reset (then [`POWER_STATE`](Self::POWER_STATE) is set too).
        const FUNCTION_LEVEL_RESET = 1 << 0;
        /// MSI-X was enabled or disabled, or the function masked or unmasked.
        const MSIX = 1 << 1;
        /// The MSI control, message, or mask bits changed.
        const MSI = 1 << 2;
        /// The command register changed.
        const COMMAND = 1 << 3;
        /// The power state changed.
        const POWER_STATE = 1 << 4;
        /// The address or the size of a BAR changed. Sizing one does this too, twice.
        const BAR = 1 << 5;
        /// A plain device register or a vendor-specific capability changed.
        const REGISTERS = 1 << 6;
        /// VF Enable, NumVFs or ARI Capable Hierarchy changed: VFs come or go, or will be
        /// elsewhere when they come.
        const SRIOV = 1 << 7;
        /// VF Memory Space Enable or the system page size changed, or the address of a VF BAR.
        /// Sizing one does this too, twice.
        const VF_BAR = 1 << 8;
        /// A bridge's primary, secondary or subordinate bus number changed.
        const BUS_NUMBERS = 1 << 9;
        /// Base or limit of a bridge's memory window changed. Whether windows are open is in the
        /// command register.
        const WINDOWS = 1 << 10;
        /// Secondary Bus Reset of a bridge was set, having been clear: everything below is to be
        /// reset, and stays in reset until software clears it.
        const SECONDARY_BUS_RESET = 1 << 11;
        /// The port has an interrupt to send, by vector 0 of its MSI or MSI-X: an event that is
        /// enabled became pending, of hot plug (6.7.3.4) or of error reporting (6.2.4.1.2). While
        /// one is pending, further ones send no message of their own.
        const PORT_INTERRUPT = 1 << 12;
        /// The link below the port went up or down. What is below one that is down is not reached,
        /// and comes up again as after a hot reset, after a cold one if the slot had no power.
        const LINK = 1 << 13;
        /// Software turned the slot's power on or off, or changed an indicator.
        const SLOT = 1 << 14;
        /// ARI Forwarding Enable of the port changed.
        const ARI_FORWARDING = 1 << 15;
    }
}
