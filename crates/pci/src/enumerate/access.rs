//! One function's registers, read and written through a bus.

use super::ConfigBus;
use crate::config_reader::ConfigReader;
use crate::routing_id::RoutingId;

/// One function's config space.
#[derive(Debug)]
pub(super) struct Access<'a, B: ?Sized> {
    pub(super) bus: &'a mut B,
    pub(super) id: RoutingId,
}

impl<'a, B: ConfigBus + ?Sized> Access<'a, B> {
    pub(super) fn new(bus: &'a mut B, id: RoutingId) -> Self {
        Self { bus, id }
    }

    pub(super) fn reader(&mut self) -> ConfigReader<impl FnMut(u16, &mut [u8])> {
        let id = self.id;
        let bus = &mut *self.bus;
        ConfigReader::new(move |offset, data: &mut [u8]| bus.read(id, offset, data))
    }

    pub(super) fn read_u8(&mut self, offset: u16) -> u8 {
        self.reader().u8(offset)
    }

    pub(super) fn read_u16(&mut self, offset: u16) -> u16 {
        self.reader().u16(offset)
    }

    pub(super) fn read_u32(&mut self, offset: u16) -> u32 {
        self.reader().u32(offset)
    }

    pub(super) fn write_u16(&mut self, offset: u16, value: u16) {
        self.bus.write(self.id, offset, &value.to_le_bytes());
    }

    pub(super) fn write_u32(&mut self, offset: u16, value: u32) {
        self.bus.write(self.id, offset, &value.to_le_bytes());
    }
}
