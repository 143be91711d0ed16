//! What a PF's device and its handles share: what they can look at without waiting for the device.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv::DeviceInstance;
use hdv::pci::{SriovView, VfRouting};

use super::overlay::Overlay;
use super::{
    PfError, PfOptions, Placement, PlacementError, VirtualFunctionLayout, VirtualFunctions,
};

/// See the module's documentation. The lock is a leaf: nothing is called while it is held.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) total_vfs: u16,
    pub(super) guest_controls: bool,
    /// Recorded at creation.
    pub(super) probed_bars: [u32; 6],
    pub(super) virtual_functions: VirtualFunctions,
    published: Mutex<Published>,
    gone: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Published {
    placement: Placement,
    registers: SriovView,
}

impl Shared {
    /// Checks a description and makes what is needed for a PF, of which nothing exists yet.
    ///
    /// # Errors
    /// What is wrong with the description.
    pub(super) fn new(
        layout: &VirtualFunctionLayout,
        options: PfOptions,
        virtual_functions: VirtualFunctions,
    ) -> Result<(Arc<Self>, Overlay), PfError> {
        let placement = options.placement;
        if layout.total_vfs == 0 {
            return Err(PfError::NoVfs);
        }
        let ari = placement.port().forwards_ari();
        let routing = options
            .routing
            .unwrap_or_else(|| VfRouting::packed(placement.pf, layout.total_vfs, ari));
        placement.check_capacity(routing, layout.total_vfs)?;
        let overlay = Overlay::new(placement, layout, routing).map_err(hdv::HostError::from)?;
        let registers = overlay.view();
        let shared = Self {
            total_vfs: layout.total_vfs,
            guest_controls: options.guest_controls_sriov,
            probed_bars: registers.probed_bars(),
            virtual_functions,
            published: Mutex::new(Published {
                placement,
                registers,
            }),
            gone: AtomicBool::new(false),
        };
        Ok((Arc::new(shared), overlay))
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn placement(&self) -> Placement {
        self.lock().placement
    }

    pub(super) fn registers(&self) -> SriovView {
        self.lock().registers
    }

    /// Where the PF is, what its registers say and which VFs there are, all of one moment.
    pub(super) fn look(&self) -> (Placement, SriovView, Vec<DeviceInstance>) {
        let published = self.lock();
        let instances = self.virtual_functions.lock().clone();
        (published.placement, published.registers, instances)
    }

    /// Others see these registers from now on.
    pub(super) fn publish(&self, registers: SriovView) {
        self.lock().registers = registers;
    }

    /// Others see these registers and these VFs from now on. Returns the VFs of before, which must not be
    /// dropped under a lock.
    pub(super) fn publish_with(
        &self,
        registers: SriovView,
        instances: Vec<DeviceInstance>,
    ) -> Vec<DeviceInstance> {
        let mut published = self.lock();
        published.registers = registers;
        std::mem::replace(&mut *self.virtual_functions.lock(), instances)
    }

    pub(super) fn renumber(&self, secondary: u8, subordinate: u8) -> Result<(), PlacementError> {
        let mut published = self.lock();
        let placement = published.placement.renumbered(secondary, subordinate)?;
        placement.check_capacity(published.registers.routing, self.total_vfs)?;
        published.placement = placement;
        Ok(())
    }

    /// Software has numbered the buses below the port. There may be too few for all VFs, who are not reached then; numbers that
    /// there cannot be change nothing.
    pub(super) fn follow_buses(&self, secondary: u8, subordinate: u8) {
        let mut published = self.lock();
        if let Ok(placement) = published.placement.renumbered(secondary, subordinate) {
            published.placement = placement;
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}
