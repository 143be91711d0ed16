//! The sensor, the tutorial device: it samples a source and delivers the values by register, by a
//! ring in guest memory and by interrupt.
//!
//! [`registers`] is what a driver needs to know. This file is the device, `state` what its
//! registers do, `sampler` its thread, `pace` when a sample is due, `source` where values come from, `meter` what others
//! see and limit. The VFs of [`SriovSensor`](crate::sriov_sensor::SriovSensor) are this device too.

mod meter;
mod pace;
pub mod registers;
mod sampler;
mod source;
mod state;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use hdv::pci::Aer;
use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, Identity, Msix, PciDevice, PciExpress, PowerManagement,
};

pub use source::{SourceError, SourceName};

use registers::{BAR0_SIZE, CLASS_CODE, DEVICE_ID, MSIX_PENDING, MSIX_TABLE, VECTORS, VENDOR_ID};
use sampler::Sampler;
pub(crate) use sampler::Shared;
pub(crate) use source::Source;

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
    device_id: u16,
    shared: Arc<Shared>,
    source: Arc<dyn Source>,
    /// Runs while samples are taken.
    sampler: Option<Sampler>,
    /// Virtual processors run.
    started: bool,
}

impl Sensor {
    /// A sensor that measures `source`.
    ///
    /// # Errors
    /// The source gives no values.
    pub fn new(source: &SourceName) -> Result<Self, SourceError> {
        Ok(Self::with(DEVICE_ID, source.open()?, None))
    }

    /// A sensor that measures a source which others may measure too, with a quota of samples per second.
    pub(crate) fn with(device_id: u16, source: Arc<dyn Source>, quota: Option<NonZeroU32>) -> Self {
        Self {
            device_id,
            shared: Arc::new(Shared::new(quota)),
            source,
            sampler: None,
            started: false,
        }
    }

    /// What others see of it and limit it by, for as long as the sensor is there.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Starts or ends the sampler so that it runs exactly while the sensor is enabled and virtual
    /// processors run.
    fn follow(&mut self) {
        let (enabled, period) = {
            let guarded = self.shared.lock();
            (guarded.state.enabled(), guarded.state.period())
        };
        self.shared.meter().set_period(period);
        match (self.started && enabled, self.sampler.take()) {
            (true, None) => match Sampler::start(&self.shared, &self.source) {
                Ok(sampler) => self.sampler = Some(sampler),
                Err(error) => {
                    tracing::error!("the sensor cannot sample: {error}");
                    self.shared.lock().state.fail(registers::ERROR_SOURCE);
                }
            },
            (false, Some(sampler)) => sampler.stop(),
            (_, sampler) => self.sampler = sampler,
        }
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
            device_id: self.device_id,
            revision_id: 1,
            class: ClassCode::from_u24(CLASS_CODE),
            subsystem_vendor_id: VENDOR_ID,
            subsystem_id: self.device_id,
        };
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(BAR0_SIZE))
            .capability(PowerManagement::new())
            .capability(PciExpress::endpoint())
            .capability(Msix::new(VECTORS, place(MSIX_TABLE), place(MSIX_PENDING)))
            .extended_capability(Aer::new())
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
        self.follow();
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
