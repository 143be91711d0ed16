//! A device that tells which of its registers was reached.

use std::sync::{Arc, Mutex};

use hdv::{
    BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceContext, DeviceError, Identity,
    PciDevice, PciExpress,
};

use crate::shapes::Bars;
use crate::support::lock;

pub(crate) const VENDOR: u16 = 0x4f48;

/// A write that reached a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) device: u16,
    pub(crate) bar: BarIndex,
    pub(crate) offset: u64,
    pub(crate) value: u64,
}

/// A device whose registers say which they are: its own number, their BAR and offset.
pub(crate) struct Stamp {
    pub(crate) number: u16,
    pub(crate) bars: Bars,
    pub(crate) written: Arc<Mutex<Vec<Written>>>,
}

pub(crate) fn stamp(device: u16, bar: BarIndex, offset: u64) -> u64 {
    u64::from(device) << 48 | (bar.get() as u64) << 44 | offset
}

impl PciDevice for Stamp {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let builder = ConfigSpace::builder(Identity {
            vendor_id: VENDOR,
            device_id: self.number,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        })
        .capability(PciExpress::endpoint());
        let bars = self.bars.iter();
        bars.fold(builder, |builder, (index, bar)| builder.bar(*index, *bar))
            .build()
    }

    fn initialize(&mut self, _: DeviceContext) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        stamp(self.number, access.bar, access.offset)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        lock(&self.written).push(Written {
            device: self.number,
            bar: access.bar,
            offset: access.offset,
            value,
        });
    }

    fn reset(&mut self) {}
}
