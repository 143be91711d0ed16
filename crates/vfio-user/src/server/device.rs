//! DEVICE_GET_INFO and DEVICE_RESET.

use rustix::io::Errno;

use super::dispatch::Dispatcher;
use crate::backend::{Backend, DeviceFlags};
use crate::wire::{self, size_as_u32};

impl Dispatcher {
    pub(super) fn device_get_info(&mut self, body: &[u8]) -> Result<(), Errno> {
        let (request, _) = wire::parse_prefix::<wire::DeviceInfo>(body).ok_or(Errno::INVAL)?;
        if request.argsz < size_as_u32::<wire::DeviceInfo>() {
            return Err(Errno::INVAL);
        }
        self.reply.set_body(&wire::DeviceInfo {
            argsz: size_as_u32::<wire::DeviceInfo>(),
            flags: self.device.flags.bits(),
            num_regions: self.device.num_regions,
            num_irqs: self.device.num_irqs,
        });
        Ok(())
    }

    pub(super) fn device_reset(
        &mut self,
        body: &[u8],
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        if !body.is_empty() {
            return Err(Errno::INVAL);
        }
        if !self.device.flags.contains(DeviceFlags::RESET) {
            return Err(Errno::OPNOTSUPP);
        }
        backend.reset()
    }
}
