//! Handles of device hosts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hdv::{DeviceHost, DeviceIds, HostError, HostOptions};

use crate::device;
use crate::error::Failure;
use crate::guard;
use crate::handles::{Kind, Table};
use crate::pointers::{Out, out};
use crate::process::Process;
use crate::system::system;
use crate::types::{DEVICE_HOST_FLAGS, HcsSystem, HdvDevice, HdvHost, Hresult};

static HOSTS: Table<Host> = Table::new(Kind::Host);

/// A device host and the handles of its devices.
pub(crate) struct Host {
    host: DeviceHost,
    devices: Mutex<Vec<(DeviceIds, DeviceHandle)>>,
    /// Somebody tears it down.
    closing: AtomicBool,
    process: Process,
}

/// A handle is a number, whatever its type says.
struct DeviceHandle(HdvDevice);

// SAFETY: nothing is ever read through it.
unsafe impl Send for DeviceHandle {}

impl Host {
    /// A host that belongs to no system yet.
    pub(crate) fn new(options: HostOptions) -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self {
            host: DeviceHost::new(options)?,
            devices: Mutex::default(),
            closing: AtomicBool::new(false),
            process: Process::this(),
        }))
    }

    /// Gives it a handle.
    pub(crate) fn publish(self: &Arc<Self>, place: &Out<HdvHost>) -> Result<(), Failure> {
        place.set(HOSTS.insert(Arc::clone(self))?);
        Ok(())
    }

    pub(crate) fn host(&self) -> &DeviceHost {
        &self.host
    }

    fn devices(&self) -> std::sync::MutexGuard<'_, Vec<(DeviceIds, DeviceHandle)>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a device's handle, so that it ends with the host.
    pub(crate) fn adopt(&self, ids: DeviceIds, handle: HdvDevice) {
        self.devices().push((ids, DeviceHandle(handle)));
    }

    /// Takes back [`Host::adopt`].
    pub(crate) fn disown(&self, handle: HdvDevice) {
        self.devices().retain(|(_, adopted)| adopted.0 != handle);
    }

    /// Whether it has such a device.
    pub(crate) fn has(&self, ids: &DeviceIds) -> bool {
        self.devices().iter().any(|(adopted, _)| adopted == ids)
    }

    /// Tears down every device, and releases what belongs to them afterwards: in `Teardown` their handles
    /// are still good.
    pub(crate) fn close(&self) -> Result<(), HostError> {
        self.host.close()?;
        let devices = std::mem::take(&mut *self.devices());
        for (_, handle) in devices {
            device::release(handle.0);
        }
        Ok(())
    }
}

/// The host that a handle names, in the process that made it.
pub(crate) fn host(handle: HdvHost) -> Result<Arc<Host>, Failure> {
    let host = HOSTS.share(handle)?;
    host.process.check("device host")?;
    Ok(host)
}

/// Checks `HDV_DEVICE_HOST_FLAGS`.
pub(crate) fn check_flags(flags: u32) -> Result<(), Failure> {
    if flags & !DEVICE_HOST_FLAGS == 0 {
        Ok(())
    } else {
        Err(Failure::argument(format!(
            "{flags:#x} are no HDV_DEVICE_HOST_FLAGS"
        )))
    }
}

/// # Safety
/// `place` is null or valid for writes.
unsafe fn initialize(of: HcsSystem, flags: u32, place: *mut HdvHost) -> Result<(), Failure> {
    // SAFETY: by the contract.
    let place = unsafe { out(place, "DeviceHostHandle", std::ptr::null_mut()) }?;
    let system = system(of)?;
    check_flags(flags)?;
    let host = Host::new(HostOptions::new())?;
    host.host().attach(system)?;
    host.publish(&place)
}

/// Makes this process a device host.
///
/// # Safety
/// `host` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvInitializeDeviceHost(system: HcsSystem, host: *mut HdvHost) -> Hresult {
    // SAFETY: by the contract.
    guard::result(|| unsafe { initialize(system, 0, host) })
}

/// Makes this process a device host, with flags.
///
/// # Safety
/// `host` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvInitializeDeviceHostEx(
    system: HcsSystem,
    flags: i32,
    host: *mut HdvHost,
) -> Hresult {
    // SAFETY: by the contract.
    guard::result(|| unsafe { initialize(system, flags.cast_unsigned(), host) })
}

/// Tears a device host down.
#[unsafe(no_mangle)]
pub extern "C" fn HdvTeardownDeviceHost(handle: HdvHost) -> Hresult {
    guard::result(|| {
        let host = host(handle)?;
        if host.host().inside_call() {
            // Asked before the handle ends, so that the host can still be torn down later.
            return Err(HostError::InsideCall.into());
        }
        HOSTS.remove(handle);
        if host.closing.swap(true, Ordering::SeqCst) {
            // Found by two threads at once: it is the other's.
            return Err(HostError::Closed.into());
        }
        host.close()?;
        Ok(())
    })
}
