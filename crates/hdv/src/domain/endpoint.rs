//! The endpoint of a domain as a device: its windows onto config space and memory of what is inside.

use std::fmt;
use std::sync::Arc;

use hdv_pci::topology::Ecam;
use hdv_pci::{ConfigError, ConfigSpace};

use super::hierarchy::Hierarchy;
use super::inner::Context;
use super::options::DomainOptions;
use super::vmd;
use crate::access::BarAccess;
use crate::device::{DeviceContext, DeviceError, PciDevice};

/// The endpoint of a [`Domain`](super::Domain), to be served like any other device. With it goes all that is in the domain.
pub struct DomainEndpoint {
    pub(super) hierarchy: Arc<Hierarchy>,
    pub(super) options: DomainOptions,
    pub(super) ecam: Ecam,
}

/// Where in the domain an access to a memory window goes.
fn address(access: BarAccess) -> Option<u64> {
    let base = match access.bar {
        vmd::MEMORY => vmd::MEMORY_BASE,
        vmd::PREFETCHABLE => vmd::PREFETCHABLE_BASE,
        _ => return None,
    };
    base.checked_add(access.offset)
}

impl PciDevice for DomainEndpoint {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        vmd::config_space(self.options, self.ecam.size())
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        let vectors = self.options.vector_count();
        let interrupts = context.interrupts;
        self.hierarchy.power_on(Context {
            memory: context.memory,
            fold: Arc::new(move |address, _| {
                Some((interrupts.clone(), vmd::vector(address, vectors)?))
            }),
        })
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.hierarchy.start()
    }

    fn stop(&mut self) {
        self.hierarchy.stop();
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        let mut value = [0; 8];
        let data = &mut value[..access.size.into()];
        if access.bar == vmd::CONFIG {
            match self.ecam.decode(access.offset) {
                Some((id, offset)) => self.hierarchy.config_read(id, offset, data),
                None => data.fill(0xff),
            }
        } else if let Some(address) = address(access) {
            self.hierarchy.memory_read(address, data);
        }
        u64::from_le_bytes(value)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        let value = value.to_le_bytes();
        let data = &value[..access.size.into()];
        if access.bar == vmd::CONFIG {
            if let Some((id, offset)) = self.ecam.decode(access.offset) {
                self.hierarchy.config_write(id, offset, data);
            }
        } else if let Some(address) = address(access) {
            self.hierarchy.memory_write(address, data);
        }
    }

    fn reset(&mut self) {
        self.hierarchy.reset();
    }

    fn teardown(&mut self) {
        self.hierarchy.close();
    }
}

impl Drop for DomainEndpoint {
    fn drop(&mut self) {
        // One that was never served is not torn down.
        self.hierarchy.close();
    }
}

impl fmt::Debug for DomainEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainEndpoint")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
