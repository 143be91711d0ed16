//! How `PCI_VIRTUALIZATION_INTERFACE` is had: of a device of this process, or of a function of this machine.

use std::ffi::c_char;
use std::sync::Arc;

use hdv_sriov::{NtStatus, PciAddress, PciVirtualization, SysfsPf};

use crate::device::device;
use crate::interface::publish;
use crate::nt::{Refusal, status};
use crate::process::Process;
use crate::types::{
    Guid, HdvDevice, Ntstatus, PCI_VIRTUALIZATION_INTERFACE_VERSION, PciVirtualizationInterface,
};
use crate::without_sriov::WithoutSriov;

/// `GUID_PCI_VIRTUALIZATION_INTERFACE`.
const INTERFACE: Guid = Guid {
    data1: 0x6489_7b47,
    data2: 0x3a4a,
    data3: 0x4d75,
    data4: [0xbc, 0x74, 0x89, 0xdd, 0x6c, 0x07, 0x82, 0x93],
};

/// What is asked for, and where it goes.
struct Query {
    interface_type: *const Guid,
    size: u16,
    version: u16,
    place: *mut PciVirtualizationInterface,
}

impl Query {
    fn check_pointers(&self) -> Result<(), Refusal> {
        if self.interface_type.is_null() {
            return Err(Refusal::null("InterfaceType"));
        }
        if self.place.is_null() {
            return Err(Refusal::null("Interface"));
        }
        Ok(())
    }

    /// # Safety
    /// The pointers, which were checked, are valid.
    unsafe fn answer(
        &self,
        function: impl FnOnce() -> Result<Arc<dyn PciVirtualization>, Refusal>,
        process: Option<Process>,
    ) -> Result<(), Refusal> {
        // SAFETY: by the contract.
        let interface_type = unsafe { self.interface_type.read_unaligned() };
        if interface_type != INTERFACE {
            return Err(Refusal::new(
                NtStatus::NOT_SUPPORTED,
                format!(
                    "there is no interface {}: ask for GUID_PCI_VIRTUALIZATION_INTERFACE",
                    interface_type.to_uuid()
                ),
            ));
        }
        if self.version > PCI_VIRTUALIZATION_INTERFACE_VERSION {
            return Err(Refusal::new(
                NtStatus::NOT_SUPPORTED,
                format!(
                    "version {} of PCI_VIRTUALIZATION_INTERFACE is not known: the newest is \
                     {PCI_VIRTUALIZATION_INTERFACE_VERSION}",
                    self.version
                ),
            ));
        }
        let needed = size_of::<PciVirtualizationInterface>();
        if usize::from(self.size) < needed {
            return Err(Refusal::new(
                NtStatus::BUFFER_TOO_SMALL,
                format!(
                    "Size is {}, but PCI_VIRTUALIZATION_INTERFACE has {needed} bytes",
                    self.size
                ),
            ));
        }
        let interface = publish(function()?, process)
            .map_err(|failure| Refusal::new(NtStatus::UNSUCCESSFUL, failure.text))?;
        // SAFETY: by the contract.
        unsafe { self.place.write_unaligned(interface) };
        Ok(())
    }
}

/// Gives the interface of a device.
///
/// # Safety
/// Pointers are null or valid; `interface` for the bytes that a `PCI_VIRTUALIZATION_INTERFACE` has, if `size` is as
/// many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvQueryPciVirtualizationInterface(
    device_handle: HdvDevice,
    interface_type: *const Guid,
    size: u16,
    version: u16,
    interface: *mut PciVirtualizationInterface,
) -> Ntstatus {
    let query = Query {
        interface_type,
        size,
        version,
        place: interface,
    };
    status(|| {
        query.check_pointers()?;
        let found = device(device_handle).map_err(Refusal::handle)?;
        let process = found.process();
        process.check("device").map_err(Refusal::handle)?;
        let function = || -> Result<Arc<dyn PciVirtualization>, Refusal> {
            Ok(match found.physical_function() {
                Some(pf) => Arc::new(pf.clone()),
                None => Arc::new(WithoutSriov::new(Arc::clone(&found))),
            })
        };
        // SAFETY: by the contract.
        unsafe { query.answer(function, Some(process)) }
    })
}

/// Gives the interface of a function of this machine.
///
/// # Safety
/// As for [`OpenHdvQueryPciVirtualizationInterface`]; `address` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvQueryPciVirtualizationInterfaceAt(
    address: *const c_char,
    interface_type: *const Guid,
    size: u16,
    version: u16,
    interface: *mut PciVirtualizationInterface,
) -> Ntstatus {
    let query = Query {
        interface_type,
        size,
        version,
        place: interface,
    };
    status(|| {
        // SAFETY: by the contract.
        let address = unsafe { crate::pointers::text(address, "Address") }
            .map_err(|failure| Refusal::new(NtStatus::INVALID_PARAMETER, failure.text))?;
        query.check_pointers()?;
        let address: PciAddress = address.to_string_lossy().parse()?;
        let function = || -> Result<Arc<dyn PciVirtualization>, Refusal> {
            Ok(Arc::new(SysfsPf::open(address)?))
        };
        // SAFETY: by the contract.
        unsafe { query.answer(function, None) }
    })
}
