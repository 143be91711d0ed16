//! The callbacks as the host calls them on the guest's behalf: what one that fails means there, and
//! its line in the log.

use hdv_pci::BarIndex;

use super::DeviceCallbacks;
use super::rate_limit::RateLimit;
use crate::access::BarAccess;
use crate::device::DeviceError;
use crate::slot::coarse_now;

/// See the module's documentation.
pub(super) struct Device {
    pub(super) callbacks: Box<dyn DeviceCallbacks>,
    /// Vendor and device id, for the log.
    pub(super) ids: (u16, u16),
    failures: RateLimit,
}

impl Device {
    pub(super) fn new(callbacks: Box<dyn DeviceCallbacks>) -> Self {
        Self {
            callbacks,
            ids: (0, 0),
            failures: RateLimit::default(),
        }
    }

    /// The dword at `offset`; `None` if the callback failed.
    pub(super) fn read_config(&mut self, offset: u16) -> Option<u32> {
        let read = self.callbacks.read_config_space(offset.into());
        self.logged(read, "ReadConfigSpace", None, offset.into())
    }

    /// Whether the callback took it.
    pub(super) fn write_config(&mut self, offset: u16, value: u32) -> bool {
        let written = self.callbacks.write_config_space(offset.into(), value);
        self.logged(written, "WriteConfigSpace", None, offset.into())
            .is_some()
    }

    /// All ones if the callback fails.
    pub(super) fn read(&mut self, access: BarAccess, data: &mut [u8]) {
        let read = self
            .callbacks
            .read_intercepted_memory(access.bar, access.offset, data);
        let bar = Some(access.bar);
        if self
            .logged(read, "ReadInterceptedMemory", bar, access.offset)
            .is_none()
        {
            // Also what it wrote before it failed.
            data.fill(0xff);
        }
    }

    /// Whether the callback took it.
    pub(super) fn write(&mut self, access: BarAccess, data: &[u8]) -> bool {
        let written = self
            .callbacks
            .write_intercepted_memory(access.bar, access.offset, data);
        let bar = Some(access.bar);
        self.logged(written, "WriteInterceptedMemory", bar, access.offset)
            .is_some()
    }

    fn logged<T>(
        &mut self,
        result: Result<T, DeviceError>,
        callback: &'static str,
        bar: Option<BarIndex>,
        offset: u64,
    ) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if let Some(suppressed) = self.failures.allow(coarse_now()) {
            let (vendor, device) = self.ids;
            let bar = bar.map(BarIndex::get);
            tracing::warn!(
                device = format_args!("{vendor:04x}:{device:04x}"),
                bar,
                suppressed,
                "{callback} failed at offset {offset:#x}: {error}; a read is all ones, a write \
                 is dropped"
            );
        }
        None
    }
}
