//! The VFs of a PF, as the PF and others see them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv::DeviceInstance;

/// A VF that is enabled. It outlives its device harmlessly.
#[derive(Clone, Debug)]
pub struct VirtualFunction {
    number: u16,
    instance: DeviceInstance,
}

impl VirtualFunction {
    /// Its number, from 0.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its device: state, client, guest memory, interrupts, doorbells.
    #[must_use]
    pub fn instance(&self) -> &DeviceInstance {
        &self.instance
    }
}

/// The VFs of a PF that are enabled. Clones see the same ones; looking waits for no device.
#[derive(Clone, Debug, Default)]
pub struct VirtualFunctions(Arc<Mutex<Vec<DeviceInstance>>>);

impl VirtualFunctions {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// VF `vf`, counted from 0; `None` if it is not enabled.
    #[must_use]
    pub fn get(&self, vf: u16) -> Option<VirtualFunction> {
        let instance = self.lock().get(usize::from(vf))?.clone();
        Some(VirtualFunction {
            number: vf,
            instance,
        })
    }

    /// All of them, in their order.
    #[must_use]
    pub fn all(&self) -> Vec<VirtualFunction> {
        let instances = self.lock().clone();
        (0..)
            .zip(instances)
            .map(|(number, instance)| VirtualFunction { number, instance })
            .collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<DeviceInstance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
