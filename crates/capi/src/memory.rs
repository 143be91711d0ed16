//! Guest memory: copies and apertures.

use std::ffi::c_void;

use hdv::GuestAddress;

use crate::device::device;
use crate::error::{Failure, codes};
use crate::guard;
use crate::pointers::{bytes, bytes_mut, out};
use crate::types::{HdvDevice, Hresult};

/// A range that is one: not empty, and within 64 bits.
fn range(address: u64, count: u32) -> Result<(GuestAddress, usize), Failure> {
    let span = u64::from(count).checked_sub(1);
    let last = span.and_then(|span| address.checked_add(span));
    match last {
        Some(_) => Ok((GuestAddress(address), count as usize)),
        None => Err(Failure::argument(format!(
            "{count:#x} bytes at {address:#x} are no range of guest memory"
        ))),
    }
}

/// Copies from guest memory.
///
/// # Safety
/// `buffer` is null or valid for writes of `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvReadGuestMemory(
    requestor: HdvDevice,
    address: u64,
    count: u32,
    buffer: *mut u8,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        let (address, count) = range(address, count)?;
        // SAFETY: by the contract.
        let buffer = unsafe { bytes_mut(buffer, count, "Buffer") }?;
        Ok(device.memory()?.read(address, buffer)?)
    })
}

/// Copies to guest memory.
///
/// # Safety
/// `buffer` is null or valid for reads of `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvWriteGuestMemory(
    requestor: HdvDevice,
    address: u64,
    count: u32,
    buffer: *const u8,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        let (address, count) = range(address, count)?;
        // SAFETY: by the contract.
        let buffer = unsafe { bytes(buffer, count, "Buffer") }?;
        Ok(device.memory()?.write(address, buffer)?)
    })
}

/// Maps guest memory.
///
/// # Safety
/// `place` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvCreateGuestMemoryAperture(
    requestor: HdvDevice,
    address: u64,
    count: u32,
    write_protected: i32,
    place: *mut *mut c_void,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { out(place, "MappedAddress", std::ptr::null_mut()) }?;
        let device = device(requestor)?;
        let (address, count) = range(address, count)?;
        let memory = device.memory()?;
        let aperture = memory.aperture(address, count, write_protected != 0)?;
        let mapped = aperture.as_ptr();
        let mut apertures = device.apertures();
        let Some(apertures) = apertures.as_mut() else {
            return Err(Failure::new(
                codes::E_HANDLE,
                "the device was torn down meanwhile",
            ));
        };
        apertures.insert(mapped.addr(), aperture);
        place.set(mapped.cast());
        Ok(())
    })
}

/// Unmaps guest memory.
#[unsafe(no_mangle)]
pub extern "C" fn HdvDestroyGuestMemoryAperture(
    requestor: HdvDevice,
    mapped: *mut c_void,
) -> Hresult {
    guard::result(|| {
        if mapped.is_null() {
            return Err(Failure::null("MappedAddress"));
        }
        let device = device(requestor)?;
        let aperture = device
            .apertures()
            .as_mut()
            .and_then(|apertures| apertures.remove(&mapped.addr()));
        match aperture {
            Some(_) => Ok(()),
            None => Err(Failure::new(
                codes::NOT_FOUND,
                format!("the device has no aperture at {mapped:p}"),
            )),
        }
    })
}
