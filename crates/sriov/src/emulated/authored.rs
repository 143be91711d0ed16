//! A [`PhysicalFunction`] as the two things that its PF is made of: a device, and where its VFs come from.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv::{
    BarAccess, ConfigError, ConfigSpace, DeviceContext, DeviceError, Function, HostError, PciDevice,
};

use super::caught::caught;
use super::{PhysicalFunction, VirtualFunctionLayout, VirtualFunctionSource, VirtualFunctions};

/// See the module's documentation. Calls into a PF never overlap, so nobody ever waits for the lock.
#[derive(Clone)]
pub(super) struct Authored(Arc<Mutex<Box<dyn PhysicalFunction>>>);

impl Authored {
    pub(super) fn new(pf: Box<dyn PhysicalFunction>) -> Self {
        Self(Arc::new(Mutex::new(pf)))
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn PhysicalFunction>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks what the VFs look like, and says where they are found.
    ///
    /// # Errors
    /// It panicked.
    pub(super) fn introduce(
        &self,
        virtual_functions: &VirtualFunctions,
    ) -> Result<VirtualFunctionLayout, HostError> {
        caught(|| {
            let mut pf = self.lock();
            let layout = pf.virtual_functions();
            pf.attach_virtual_functions(virtual_functions.clone());
            layout
        })
        .ok_or_else(|| DeviceError::new("the device panicked when it was asked for its VFs").into())
    }

    /// Ends one that no host has taken.
    pub(super) fn end(self) {
        if caught(|| self.lock().teardown()).is_none() || caught(|| drop(self)).is_none() {
            tracing::error!("a PF that was refused panicked in teardown");
        }
    }
}

impl PciDevice for Authored {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        self.lock().config_space()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.lock().initialize(context)
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        self.lock().set_configuration(values)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.lock().start()
    }

    fn stop(&mut self) {
        self.lock().stop();
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.lock().read(access)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.lock().write(access, value);
    }

    fn reset(&mut self) {
        self.lock().reset();
    }

    fn teardown(&mut self) {
        self.lock().teardown();
    }
}

impl VirtualFunctionSource for Authored {
    fn create(&mut self, vf: u16) -> Result<Box<dyn Function>, DeviceError> {
        let device = self.lock().create_virtual_function(vf)?;
        hdv::pci_function(device).map_err(|error| match error {
            HostError::Device(error) => error,
            error => DeviceError::new(error.to_string()),
        })
    }

    fn known_when_made(&self) -> bool {
        // A device of this kind declares its config space before anything else.
        true
    }
}

impl fmt::Debug for Authored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authored").finish_non_exhaustive()
    }
}
