//! The PF as a function: the device's own one with the SR-IOV and ARI capabilities added to its config space, and
//! the VFs that the registers bring.

use std::sync::Arc;

use hdv::pci::DetectedError;
use hdv::pci::spec::CONFIG_SPACE_SIZE;
use hdv::pci::spec::capability_id::PCI_EXPRESS;
use hdv::pci::spec::extended;
use hdv::pci::spec::header::{CAPABILITIES_POINTER, END};
use hdv::{
    Bar, BarIndex, ConfigWrite, DeviceError, DeviceInstance, ErrorRecord, Function,
    FunctionCarrier, GuestMemory, HostError, Identity, Interrupts, Mmio, ResetScope,
};

use super::overlay::Overlay;
use super::shared::Shared;
use super::{VirtualFunctionLayout, VirtualFunctionSource, making};
use crate::error::VirtualizationError;

/// As many as fit behind the header; a list that is longer runs in circles.
const CAPABILITIES_MAX: u16 = (0x100 - END) / 4;

/// Who writes config space, or resets the PF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// The holder of the [`EmulatedPf`](super::EmulatedPf).
    Owner,
    /// The VM that has the PF.
    Vm,
}

/// See the module's documentation.
pub(super) struct PfFunction {
    inner: Box<dyn Function>,
    source: Box<dyn VirtualFunctionSource>,
    bars: [Option<Bar>; BarIndex::ALL.len()],
    overlay: Overlay,
    shared: Arc<Shared>,
    carrier: Option<Arc<dyn FunctionCarrier>>,
    powered_on: bool,
    /// The VM's VFs could not be enabled, and that has been logged.
    vm_failed: bool,
}

impl PfFunction {
    /// `overlay` and `shared` were made for `layout`.
    pub(super) fn new(
        inner: Box<dyn Function>,
        source: Box<dyn VirtualFunctionSource>,
        layout: &VirtualFunctionLayout,
        overlay: Overlay,
        shared: Arc<Shared>,
    ) -> Self {
        let mut bars = [None; BarIndex::ALL.len()];
        for &(index, bar) in &layout.bars {
            bars[index.get()] = Some(bar);
        }
        Self {
            inner,
            source,
            bars,
            overlay,
            shared,
            carrier: None,
            powered_on: false,
            vm_failed: false,
        }
    }

    /// # Errors
    /// The PF was not powered on.
    fn powered_on(&self) -> Result<(), VirtualizationError> {
        if self.powered_on {
            Ok(())
        } else {
            Err(VirtualizationError::NotPoweredOn)
        }
    }

    /// Sets or clears VF Enable and writes NumVFs. Parameters have been checked.
    pub(super) fn set_vf_enable(
        &mut self,
        enable: bool,
        num_vfs: u16,
    ) -> Result<(), VirtualizationError> {
        self.powered_on()?;
        let before = self.overlay.view();
        match (enable, before.vf_enable) {
            (true, true) => {
                let num_vfs = before.num_vfs;
                return Err(VirtualizationError::AlreadyEnabled { num_vfs });
            }
            (false, false) => return Err(VirtualizationError::AlreadyDisabled),
            (true, false) => {
                self.overlay.set_num_vfs(num_vfs);
                self.overlay.set_vf_enable(true);
            }
            (false, true) => {
                self.overlay.set_vf_enable(false);
                self.overlay.set_num_vfs(0);
            }
        }
        let result = self.follow(before.vf_enable);
        if result.is_err() {
            // As if nothing had been asked.
            self.overlay.set_num_vfs(before.num_vfs);
            self.shared.publish(self.overlay.view());
        }
        result.map_err(not_brought)
    }

    /// The owner reads config space.
    pub(super) fn owner_read(
        &mut self,
        offset: u16,
        data: &mut [u8],
    ) -> Result<(), VirtualizationError> {
        self.powered_on()?;
        self.config_read(offset, data);
        Ok(())
    }

    /// The owner writes config space.
    pub(super) fn owner_write(
        &mut self,
        offset: u16,
        data: &[u8],
    ) -> Result<(), VirtualizationError> {
        self.powered_on()?;
        let (_, result) = self.write(offset, data, Writer::Owner);
        result.map_err(not_brought)
    }

    /// The owner resets the PF.
    pub(super) fn owner_reset(&mut self) -> Result<(), VirtualizationError> {
        self.powered_on()?;
        self.conventional_reset(ResetScope::Function, Writer::Owner);
        Ok(())
    }

    /// What `writer` does to SR-IOV registers counts.
    fn counts(&self, writer: Writer) -> bool {
        writer == Writer::Owner || self.shared.guest_controls
    }

    fn conventional_reset(&mut self, scope: ResetScope, writer: Writer) {
        if self.counts(writer) {
            self.reset_overlay(Overlay::reset);
        }
        self.inner.reset(scope);
    }

    fn reset_overlay(&mut self, reset: fn(&mut Overlay)) {
        let before = self.overlay.view().vf_enable;
        reset(&mut self.overlay);
        // No reset enables VFs, and disabling cannot fail.
        let _: Result<(), HostError> = self.follow(before);
    }

    fn write(
        &mut self,
        offset: u16,
        data: &[u8],
        writer: Writer,
    ) -> (ConfigWrite, Result<(), HostError>) {
        if !reaches_extended(offset, data.len()) {
            return (self.write_device(offset, data, writer), Ok(()));
        }
        let placed = self
            .overlay
            .placed(|at| read_dword(self.inner.as_mut(), at));
        let parts = placed.parts(offset, data.len());
        let register = placed.register(offset);
        let mut written = ConfigWrite::Registers;
        let mut result = Ok(());
        if !parts.before.is_empty() {
            written = self.write_device(offset, &data[parts.before], writer);
        }
        if !parts.inside.is_empty() && self.counts(writer) {
            result = self.write_registers(register, &data[parts.inside]);
        }
        if !parts.after.is_empty()
            && let Some(offset) = advanced(offset, parts.after.start)
            && self.write_device(offset, &data[parts.after], writer) == ConfigWrite::Reset
        {
            written = ConfigWrite::Reset;
        }
        (written, result)
    }

    fn write_device(&mut self, offset: u16, data: &[u8], writer: Writer) -> ConfigWrite {
        let written = self.inner.config_write(offset, data);
        if written == ConfigWrite::Reset && self.counts(writer) {
            self.reset_overlay(Overlay::function_level_reset);
        }
        written
    }

    /// Software writes the added registers, dword after dword. Returns the first error; what is behind it is
    /// written all the same.
    fn write_registers(&mut self, offset: u16, data: &[u8]) -> Result<(), HostError> {
        let mut result = Ok(());
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let length = usize::from(4 - at % 4).min(rest.len());
            let (dword, tail) = rest.split_at(length);
            let before = self.overlay.view().vf_enable;
            self.overlay.write(at, dword);
            result = result.and(self.follow(before));
            let Some(next) = advanced(at, length) else {
                break;
            };
            (at, rest) = (next, tail);
        }
        result
    }

    /// VFs come or go, as the registers say now; `before` is what VF Enable was.
    ///
    /// # Errors
    /// They cannot come: VF Enable is clear.
    fn follow(&mut self, before: bool) -> Result<(), HostError> {
        let registers = self.overlay.view();
        match (before, registers.vf_enable) {
            (false, true) => match self.bring() {
                Ok(instances) => {
                    self.vm_failed = false;
                    self.shared.publish_with(registers, instances.clone());
                    for (vf, instance) in (0..).zip(&instances) {
                        self.source.created(vf, instance);
                    }
                    Ok(())
                }
                Err(error) => {
                    self.overlay.set_vf_enable(false);
                    self.shared.publish(self.overlay.view());
                    Err(error)
                }
            },
            (true, false) => {
                let instances = self.shared.publish_with(registers, Vec::new());
                self.take_away(&instances);
                Ok(())
            }
            _ => {
                self.shared.publish(registers);
                Ok(())
            }
        }
    }

    fn bring(&mut self) -> Result<Vec<DeviceInstance>, HostError> {
        let Some(carrier) = self.carrier.clone() else {
            return Err(DeviceError::new(
                "nothing carries the VFs of this PF: it is in no host that could",
            )
            .into());
        };
        let registers = self.overlay.view();
        let identity = self.inner.identity();
        let made = making::make(self.source.as_mut(), &registers, identity, self.bars)?;
        carrier.bring(made)
    }

    fn take_away(&self, instances: &[DeviceInstance]) {
        if let Some(carrier) = &self.carrier
            && !instances.is_empty()
        {
            carrier.take_away(instances);
        }
    }
}

/// Whether an access reaches what the capabilities can be in.
fn reaches_extended(offset: u16, length: usize) -> bool {
    usize::from(offset) + length > usize::from(extended::FIRST)
}

/// `offset` and `length` bytes more, in config space.
fn advanced(offset: u16, length: usize) -> Option<u16> {
    let at = usize::from(offset).checked_add(length)?;
    u16::try_from(at).ok().filter(|at| *at < CONFIG_SPACE_SIZE)
}

/// Why VFs did not come. A host that is being torn down takes its PFs with it.
fn not_brought(error: HostError) -> VirtualizationError {
    match error {
        HostError::Closed => VirtualizationError::Gone,
        error => VirtualizationError::Device(error),
    }
}

/// Whether the list of capabilities in the first 256 bytes has `id`. `read` reads dwords.
fn has_capability(id: u8, mut read: impl FnMut(u16) -> u32) -> bool {
    let mut at = read(CAPABILITIES_POINTER) & 0xfc;
    for _ in 0..CAPABILITIES_MAX {
        let Some(offset) = u16::try_from(at).ok().filter(|at| *at >= END) else {
            return false;
        };
        let header = read(offset);
        if header & 0xff == u32::from(id) {
            return true;
        }
        at = header >> 8 & 0xfc;
    }
    false
}

fn read_dword(function: &mut dyn Function, offset: u16) -> u32 {
    let mut data = [0; 4];
    function.config_read(offset, &mut data);
    u32::from_le_bytes(data)
}

impl Function for PfFunction {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn bar_size(&self, bar: BarIndex) -> u64 {
        self.inner.bar_size(bar)
    }

    fn memory(&self) -> &GuestMemory {
        self.inner.memory()
    }

    fn interrupts(&self) -> &Interrupts {
        self.inner.interrupts()
    }

    fn mmio(&self) -> &Mmio {
        self.inner.mmio()
    }

    fn power_on(&mut self, configuration: &[String]) -> Result<(), DeviceError> {
        self.inner.power_on(configuration)?;
        self.powered_on = true;
        Ok(())
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.inner.start()?;
        // A device behind callbacks shows its capabilities from its first start on.
        if !self.overlay.is_settled()
            && !has_capability(PCI_EXPRESS, |at| read_dword(self.inner.as_mut(), at))
        {
            tracing::warn!(
                "the PF has no PCI Express capability: operating systems do not look for SR-IOV in it; add one"
            );
        }
        self.overlay
            .settle(|at| read_dword(self.inner.as_mut(), at));
        Ok(())
    }

    fn stop(&mut self) {
        self.inner.stop();
    }

    fn teardown(&mut self) {
        // No VF outlives its PF; a handle that is asked meanwhile says so already.
        self.shared.set_gone();
        self.overlay.set_vf_enable(false);
        let instances = self.shared.publish_with(self.overlay.view(), Vec::new());
        self.take_away(&instances);
        self.inner.teardown();
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.inner.config_read(offset, data);
        if !reaches_extended(offset, data.len()) {
            return;
        }
        let placed = self
            .overlay
            .placed(|at| read_dword(self.inner.as_mut(), at));
        placed.link(offset, data);
        let inside = placed.parts(offset, data.len()).inside;
        if let Some(offset) = advanced(offset, inside.start) {
            placed.read(offset, &mut data[inside]);
        }
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        let (written, result) = self.write(offset, data, Writer::Vm);
        // A VM that tries for ever is told of once.
        if let Err(error) = result
            && !std::mem::replace(&mut self.vm_failed, true)
        {
            tracing::error!("a VM set VF Enable of its PF, but the VFs cannot be enabled: {error}");
        }
        written
    }

    fn config_read_as_vf(&mut self, offset: u16, data: &mut [u8]) {
        self.inner.config_read_as_vf(offset, data);
    }

    fn config_write_as_vf(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.inner.config_write_as_vf(offset, data)
    }

    fn carried_by(&mut self, carrier: Arc<dyn FunctionCarrier>) {
        self.carrier = Some(carrier);
    }

    fn bus_numbered(&mut self, secondary: u8, subordinate: u8) {
        self.shared.follow_buses(secondary, subordinate);
        self.inner.bus_numbered(secondary, subordinate);
    }

    fn record_error(&mut self, error: DetectedError) -> ErrorRecord {
        self.inner.record_error(error)
    }

    fn bar_read(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        self.inner.bar_read(bar, offset, data);
    }

    fn bar_write(&mut self, bar: BarIndex, offset: u64, data: &[u8]) {
        self.inner.bar_write(bar, offset, data);
    }

    fn interrupts_changed(&mut self) {
        self.inner.interrupts_changed();
    }

    fn reset(&mut self, scope: ResetScope) {
        self.conventional_reset(scope, Writer::Vm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_found_in_their_list_and_in_no_circle() {
        let found = |list: &[(u16, u32)]| {
            has_capability(PCI_EXPRESS, |offset| {
                let entry = list.iter().find(|(at, _)| *at == offset);
                entry.map_or(0, |(_, header)| *header)
            })
        };
        assert!(found(&[(0x34, 0x40), (0x40, 0x5011), (0x50, 0x0010)]));
        assert!(!found(&[(0x34, 0x40), (0x40, 0x0011), (0x50, 0x0010)]));
        assert!(!found(&[(0x34, 0x40), (0x40, 0x4011)]), "a circle");
        assert!(!found(&[(0x34, 0x10), (0x10, 0x0010)]), "in the header");
        assert!(!found(&[]));
    }
}
