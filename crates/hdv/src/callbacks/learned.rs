//! What the host learns of a device from its config space, once: after its first start, or at its
//! first access as a VF.

use hdv_pci::spec::express::{DEVICE_CAPABILITIES, DEVICE_CONTROL, DeviceCapabilities};
use hdv_pci::spec::power::{CONTROL_STATUS, PowerControl, PowerState};
use hdv_pci::spec::{capability_id, express};
use hdv_pci::{BarIndex, VfConfigRules};

use super::capabilities::{self, Entry, Read};
use super::dword::{Write, half};
use super::links::Links;
use super::msi::MsiRegisters;
use super::msix::MsixTable;
use super::write_one::WriteOneToClear;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) links: Links,
    pub(super) write_one: WriteOneToClear,
    pub(super) msi: Option<MsiRegisters>,
    pub(super) msix: Option<MsixTable>,
    /// What of it a VF has.
    pub(super) vf_rules: VfConfigRules,
    /// The dword of PCI Express device control, if the device has function level reset.
    function_level_reset: Option<u16>,
    /// The dword of power management control.
    pub(super) power_control: Option<u16>,
    power_state: PowerState,
}

impl Learned {
    /// Reads a device's capabilities.
    pub(super) fn new(bar_sizes: [u64; BarIndex::ALL.len()], read: &mut Read<'_>) -> Self {
        let (mut msi, mut msix) = (None, None);
        let capabilities = capabilities::walk(read, &mut |entry, read| {
            let is = |id: u8| entry.id == u16::from(id);
            if is(capability_id::MSI) {
                msi = Some(MsiRegisters::new(entry.offset, read(entry.offset)));
            } else if is(capability_id::MSIX) {
                let dwords = [0, 4, 8].map(|at| read(entry.offset + at));
                msix = MsixTable::new(entry.offset, dwords, bar_sizes);
                return msix.is_some();
            }
            true
        });
        let express = capabilities.find(capability_id::PCI_EXPRESS);
        let function_level_reset = express
            .filter(|entry| can_reset(*entry, read))
            .map(|entry| entry.offset + DEVICE_CONTROL);
        Self {
            links: Links::new(&capabilities),
            write_one: WriteOneToClear::new(&capabilities, read),
            msi,
            msix,
            vf_rules: VfConfigRules::new(express.map(|entry| entry.offset)),
            function_level_reset,
            power_control: capabilities
                .find(capability_id::POWER_MANAGEMENT)
                .map(|entry| entry.offset + CONTROL_STATUS),
            power_state: PowerState::D0,
        }
    }

    /// The function is to be reset because of a write: Initiate Function Level Reset (6.6.2).
    pub(super) fn initiates_reset(&self, write: Write) -> bool {
        let bit = u32::from(express::DeviceControl::INITIATE_FUNCTION_LEVEL_RESET.bits());
        self.function_level_reset == Some(write.offset) && write.value & bit != 0
    }

    /// Follows the power state; whether this write takes the function from D3hot to D0.
    pub(super) fn wakes_up(&mut self, write: Write) -> bool {
        if self.power_control != Some(write.offset) || write.enable & 0xff == 0 {
            return false;
        }
        let state = PowerState::of(PowerControl::from_bits_retain(half(write.value, 0)));
        let before = std::mem::replace(&mut self.power_state, state);
        before == PowerState::D3Hot && state == PowerState::D0
    }

    /// Function reset: what the guest wrote is gone.
    pub(super) fn reset(&mut self) {
        self.power_state = PowerState::D0;
        if let Some(msi) = &mut self.msi {
            msi.reset();
        }
    }
}

fn can_reset(entry: Entry, read: &mut Read<'_>) -> bool {
    let capabilities = read(entry.offset + DEVICE_CAPABILITIES);
    DeviceCapabilities::from_bits_retain(capabilities)
        .contains(DeviceCapabilities::FUNCTION_LEVEL_RESET)
}
