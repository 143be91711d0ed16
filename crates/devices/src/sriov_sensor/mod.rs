//! A PF whose VFs are sensors for different VMs. All measure the PF's one source; each has its own ring,
//! thresholds and rate, and a quota that the PF enforces.
//!
//! [`registers`] is what the PF shows and limits. What a VF does is [the sensor's](crate::sensor) business.

pub mod registers;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use hdv::pci::Aer;
use hdv::{
    Bar, BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceError, Identity,
    PciDevice, PciExpress, PowerManagement,
};
use hdv_sriov::{PhysicalFunction, VirtualFunctionLayout, VirtualFunctions};

use crate::sensor::registers::BAR0_SIZE;
use crate::sensor::{Sensor, Shared, Source, SourceError, SourceName};

use registers::*;

/// See the module's documentation.
///
/// What PF and VFs share is the source, and of each VF a quota and counters, which neither side waits for: VFs that
/// are busy do not hold each other up, nor does a PF that looks at them.
pub struct SriovSensor {
    source: Arc<dyn Source>,
    /// As many as there can be VFs.
    entries: Vec<Entry>,
    virtual_functions: VirtualFunctions,
}

/// What the PF knows of a VF.
#[derive(Clone, Default)]
struct Entry {
    quota: Option<NonZeroU32>,
    /// Gone when VFs are disabled.
    sensor: Weak<Shared>,
}

/// More VFs, or fewer, than there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} VFs are not possible: 1 to {VFS_MAX} are")]
pub struct VfsError(pub u16);

/// An SR-IOV sensor that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SriovSensorError {
    /// The source gives no values.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A number of VFs.
    #[error(transparent)]
    Vfs(#[from] VfsError),
}

impl SriovSensor {
    /// A PF with up to `total_vfs` VFs, 1 to [`VFS_MAX`], that measure `source`. `quota` is how many samples per
    /// second each may take at most until the PF's registers say another number; 0 for no limit.
    ///
    /// # Errors
    /// The source gives no values; another number of VFs.
    pub fn new(source: &SourceName, total_vfs: u16, quota: u32) -> Result<Self, SriovSensorError> {
        if !(1..=VFS_MAX).contains(&total_vfs) {
            return Err(VfsError(total_vfs).into());
        }
        let entry = Entry {
            quota: NonZeroU32::new(quota),
            sensor: Weak::new(),
        };
        Ok(Self {
            source: source.open()?,
            entries: vec![entry; usize::from(total_vfs)],
            virtual_functions: VirtualFunctions::default(),
        })
    }

    fn total_vfs(&self) -> u16 {
        // `new` has seen that it fits.
        u16::try_from(self.entries.len()).unwrap_or(VFS_MAX)
    }

    fn enabled(&self) -> impl Iterator<Item = Arc<Shared>> {
        self.entries
            .iter()
            .filter_map(|entry| entry.sensor.upgrade())
    }

    /// The 32-bit register at `offset`, a multiple of 4. Of a 64-bit one this is the lower half.
    fn register(&self, offset: u64) -> u32 {
        match offset {
            IDENTIFICATION => IDENTIFICATION_VALUE,
            VERSION => VERSION_VALUE,
            TOTAL_VFS => self.total_vfs().into(),
            NUM_VFS => u32::try_from(self.enabled().count()).unwrap_or(u32::MAX),
            _ => match self.place(offset) {
                Some((vf, VF_STATE)) => self.state(vf),
                Some((vf, VF_QUOTA)) => quota_value(self.entries[usize::from(vf)].quota),
                Some((vf, register)) => self.sensor(vf).map_or(0, |sensor| match register {
                    VF_PERIOD => sensor.meter().period(),
                    VF_PERIOD_IN_FORCE => sensor.meter().period_in_force(),
                    _ => 0,
                }),
                None => 0,
            },
        }
    }

    /// The counter at `offset`, if one is there.
    fn counter(&self, offset: u64) -> Option<u64> {
        if offset == DELIVERED {
            let delivered = |sensor: Arc<Shared>| sensor.meter().delivered();
            return Some(self.enabled().map(delivered).fold(0, u64::wrapping_add));
        }
        let (vf, register) = self.place(offset)?;
        let counter = match register {
            VF_DELIVERED => |sensor: Arc<Shared>| sensor.meter().delivered(),
            VF_LOST => |sensor: Arc<Shared>| sensor.meter().lost(),
            _ => return None,
        };
        Some(self.sensor(vf).map_or(0, counter))
    }

    fn state(&self, vf: u16) -> u32 {
        let Some(sensor) = self.sensor(vf) else {
            return 0;
        };
        let used = self.virtual_functions.get(vf);
        let mut state = STATE_ENABLED;
        if used.is_some_and(|vf| vf.instance().has_client()) {
            state |= STATE_CLIENT;
        }
        if sensor.meter().sampling() {
            state |= STATE_SAMPLING;
        }
        state
    }

    fn sensor(&self, vf: u16) -> Option<Arc<Shared>> {
        self.entries.get(usize::from(vf))?.sensor.upgrade()
    }

    /// Which VF's entry is at `offset`, and which register of it.
    fn place(&self, offset: u64) -> Option<(u16, u64)> {
        let within = offset.checked_sub(TABLE)?;
        let vf = u16::try_from(within / ENTRY_BYTES).ok()?;
        (vf < self.total_vfs()).then_some((vf, within % ENTRY_BYTES))
    }
}

fn quota_value(quota: Option<NonZeroU32>) -> u32 {
    quota.map_or(0, NonZeroU32::get)
}

impl fmt::Debug for SriovSensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SriovSensor")
            .field("total_vfs", &self.total_vfs())
            .field("num_vfs", &self.enabled().count())
            .finish_non_exhaustive()
    }
}

impl PciDevice for SriovSensor {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: VENDOR_ID,
            device_id: PF_DEVICE_ID,
            revision_id: 1,
            class: ClassCode::from_u24(CLASS_CODE),
            subsystem_vendor_id: VENDOR_ID,
            subsystem_id: PF_DEVICE_ID,
        };
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(bar0_size(self.total_vfs())))
            .capability(PowerManagement::new())
            .capability(PciExpress::endpoint())
            .extended_capability(Aer::new())
            .build()
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        // A counter is read once, so that its halves belong together.
        let Some(counter) = self.counter(access.offset & !7) else {
            return access.read_dwords(|offset| self.register(offset));
        };
        let halves = BarAccess {
            offset: access.offset & 7,
            ..access
        };
        halves.read_dwords(|half| {
            let [low, high] = [counter & u64::from(u32::MAX), counter >> 32];
            u32::try_from(if half == 0 { low } else { high }).unwrap_or_default()
        })
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        access.write_dwords(value, |offset, value, mask| {
            if let Some((vf, VF_QUOTA)) = self.place(offset) {
                let entry = &mut self.entries[usize::from(vf)];
                let quota = NonZeroU32::new(quota_value(entry.quota) & !mask | value);
                entry.quota = quota;
                if let Some(sensor) = entry.sensor.upgrade() {
                    sensor.set_quota(quota);
                }
            }
        });
    }

    fn reset(&mut self) {
        // Its only setting, the quotas, outlasts resets: see `registers`.
    }
}

impl PhysicalFunction for SriovSensor {
    fn virtual_functions(&self) -> VirtualFunctionLayout {
        VirtualFunctionLayout::new(self.total_vfs(), VF_DEVICE_ID)
            .bar(BarIndex::BAR0, Bar::memory64(BAR0_SIZE))
    }

    fn attach_virtual_functions(&mut self, virtual_functions: VirtualFunctions) {
        self.virtual_functions = virtual_functions;
    }

    fn create_virtual_function(&mut self, vf: u16) -> Result<Box<dyn PciDevice>, DeviceError> {
        let total_vfs = self.total_vfs();
        let Some(entry) = self.entries.get_mut(usize::from(vf)) else {
            let message = format!("there is no VF {vf}: it has {total_vfs}, counted from 0");
            return Err(DeviceError::new(message));
        };
        let sensor = Sensor::with(VF_DEVICE_ID, Arc::clone(&self.source), entry.quota);
        entry.sensor = Arc::downgrade(sensor.shared());
        Ok(Box::new(sensor))
    }
}
