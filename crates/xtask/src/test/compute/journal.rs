//! A sensor that notes the calls into it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv::{
    BarAccess, ConfigError, ConfigSpace, DeviceContext, DeviceError, DeviceHost, DeviceIds,
    PciDevice, Uuid,
};
use hdv_devices::sensor::{Sensor, SourceName};

use crate::test::Failure;

/// The class of the sensors of device hosts here. Our own have another.
pub(crate) const CLASS: Uuid = Uuid::from_u128(0x5f3c_6d1e_0000_4000_8000_0000_0000_00c1);

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Initialize,
    Configure(Vec<String>),
    Start,
    Stop,
    Reset,
    Teardown,
    /// The first access to a register since the call before.
    Access,
}

/// The calls into a device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<Call>>>);

impl Journal {
    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: Call) {
        let mut calls = self.calls();
        if call != Call::Access || calls.last() != Some(&Call::Access) {
            calls.push(call);
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Call> {
        self.calls().clone()
    }

    /// Those of its life: neither resets, which are for firmware and guest to decide, nor accesses.
    pub(crate) fn life(&self) -> Vec<Call> {
        let mut calls = self.all();
        calls.retain(|call| !matches!(call, Call::Reset | Call::Access));
        calls
    }

    /// How often a call came.
    pub(crate) fn count(&self, call: &Call) -> usize {
        self.calls().iter().filter(|one| *one == call).count()
    }
}

struct Noting {
    sensor: Sensor,
    journal: Journal,
}

impl PciDevice for Noting {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        self.sensor.config_space()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.journal.note(Call::Initialize);
        self.sensor.initialize(context)
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        self.journal.note(Call::Configure(values.to_vec()));
        self.sensor.set_configuration(values)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.journal.note(Call::Start);
        self.sensor.start()
    }

    fn stop(&mut self) {
        self.journal.note(Call::Stop);
        self.sensor.stop();
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.journal.note(Call::Access);
        self.sensor.read(access)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.journal.note(Call::Access);
        self.sensor.write(access, value);
    }

    fn reset(&mut self) {
        self.journal.note(Call::Reset);
        self.sensor.reset();
    }

    fn teardown(&mut self) {
        self.journal.note(Call::Teardown);
        self.sensor.teardown();
    }
}

/// Makes a sensor of a host and announces it.
pub(crate) fn announce(
    host: &DeviceHost,
    instance: Uuid,
    journal: &Journal,
) -> Result<(), Failure> {
    let sensor = Noting {
        sensor: Sensor::new(&SourceName::Sine)?,
        journal: journal.clone(),
    };
    let ids = DeviceIds {
        class_id: CLASS,
        instance_id: instance,
    };
    let device = host.create_device(ids, hdv::pci_function(Box::new(sensor))?)?;
    Ok(host.announce(device.id())?)
}
