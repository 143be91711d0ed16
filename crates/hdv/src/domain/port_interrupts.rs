//! The messages of ports, by vector 0 of their MSI. Which events have one is not decided here.

use hdv_pci::ConfigSpace;
use hdv_pci::topology::PortId;

use super::hierarchy::State;

/// Vector 0 among mask and pending bits.
const VECTOR_0: u32 = 1;

impl State {
    /// A port has an interrupt to send; it is pending while its vector is masked, or it may send nothing.
    pub(super) fn interrupt(&mut self, port: PortId) {
        let may = self.port_may_send(port);
        let sent = self.topology.change_port(port, |config| {
            let msi = config.msi().filter(|msi| msi.enabled)?;
            let held = !may || msi.mask & VECTOR_0 != 0;
            config.set_msi_pending(if held { VECTOR_0 } else { 0 });
            if held { None } else { msi.message(0) }
        });
        if let Ok(Some((address, data))) = sent
            && let Some(context) = &self.context
            && let Some((interrupts, vector)) = (context.fold)(address, data)
        {
            interrupts.signal(vector);
        }
    }

    /// A port's MSI capability, or what it may send, may have changed: what was pending is sent as soon as it may be.
    pub(super) fn interrupt_if_pending(&mut self, port: PortId) {
        let msi = self.topology.port(port).and_then(ConfigSpace::msi);
        if msi.is_some_and(|msi| msi.pending & VECTOR_0 != 0) {
            self.interrupt(port);
        }
    }
}
