//! The sensor, the tutorial device: it samples a source and delivers the values by register, by a
//! ring in guest memory and by interrupt.
//!
//! [`registers`] is what a driver needs to know. This file is the device, `state` what its
//! registers do, `sampler` its thread, `source` where values come from.

pub mod registers;
mod sampler;
mod source;
mod state;

use std::fmt;
use std::sync::Arc;

use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, Identity, Msix, PciDevice, PciExpress, PowerManagement,
};

pub use source::{SourceError, SourceName};

use registers::{BAR0_SIZE, CLASS_CODE, DEVICE_ID, MSIX_PENDING, MSIX_TABLE, VECTORS, VENDOR_ID};
use sampler::{Sampler, Shared};
use source::Source;

/// See the module's documentation.
///
/// ```
/// use hdv::{BarIndex, TestBench};
/// use hdv_devices::sensor::{Sensor, SourceName, registers};
///
/// let mut bench = TestBench::new(Sensor::new(&SourceName::Sine)?)?;
/// bench.write(BarIndex::BAR0, registers::PERIOD, 0u32);
/// assert_eq!(bench.read::<u32>(BarIndex::BAR0, registers::ERROR), registers::ERROR_PERIOD);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sensor {
    shared: Arc<Shared>,
    activity: Activity,
    /// Virtual processors run.
    started: bool,
}

/// Who has the source.
enum Activity {
    Idle(Box<dyn Source>),
    Sampling(Sampler),
    /// The source panicked.
    Broken,
}

impl Sensor {
    /// A sensor that measures `source`.
    ///
    /// # Errors
    /// The source gives no values.
    pub fn new(source: &SourceName) -> Result<Self, SourceError> {
        Ok(Self {
            shared: Arc::new(Shared::new()),
            activity: Activity::Idle(source.open()?),
            started: false,
        })
    }

    /// Starts or ends the sampler so that it runs exactly while the sensor is enabled and virtual
    /// processors run.
    fn follow(&mut self) {
        let sample = self.started && self.shared.lock().state.enabled();
        self.activity = match std::mem::replace(&mut self.activity, Activity::Broken) {
            Activity::Idle(source) if sample => match Sampler::start(&self.shared, source) {
                Ok(sampler) => Activity::Sampling(sampler),
                Err((error, source)) => {
                    tracing::error!("the sensor cannot sample: {error}");
                    self.shared.lock().state.fail(registers::ERROR_SOURCE);
                    Activity::Idle(source)
                }
            },
            Activity::Sampling(sampler) if !sample => match sampler.stop() {
                Some(source) => Activity::Idle(source),
                None => Activity::Broken,
            },
            activity => activity,
        };
    }
}

impl fmt::Debug for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sensor")
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

impl PciDevice for Sensor {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: VENDOR_ID,
            device_id: DEVICE_ID,
            revision_id: 1,
            class: ClassCode::from_u24(CLASS_CODE),
            subsystem_vendor_id: VENDOR_ID,
            subsystem_id: DEVICE_ID,
        };
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(BAR0_SIZE))
            .capability(PowerManagement::new())
            .capability(PciExpress::endpoint())
            .capability(Msix::new(VECTORS, place(MSIX_TABLE), place(MSIX_PENDING)))
            .build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.shared.lock().state.attach(context);
        Ok(())
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.started = true;
        self.follow();
        Ok(())
    }

    fn stop(&mut self) {
        self.started = false;
        self.follow();
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.shared.lock().state.read(access)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.shared.lock().state.write(access, value);
        // A shorter period counts from now on.
        self.shared.notify();
        self.follow();
    }

    fn reset(&mut self) {
        // The sampler ends first: a sample under way belongs to before the reset.
        let started = std::mem::replace(&mut self.started, false);
        self.follow();
        self.shared.lock().state.reset();
        self.started = started;
    }

    fn teardown(&mut self) {
        self.started = false;
        self.follow();
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.teardown();
    }
}
