//! `PCI_VIRTUALIZATION_INTERFACE`: what its `Context` names, and its routines. How it is had is in `query`.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hdv_sriov::{EnableVirtualization, NtStatus, PciVirtualization, VirtualizationError};

use crate::error::{Failure, remember};
use crate::guard::value;
use crate::handles::{Kind, Table};
use crate::nt::{Refusal, number, status};
use crate::types::{
    Boolean, Ntstatus, PCI_VIRTUALIZATION_INTERFACE_VERSION, PciVirtualizationInterface,
};

static INTERFACES: Table<Interface> = Table::new(Kind::Interface);

/// Bytes of config space: no transfer has more.
const CONFIG_SPACE: u32 = 4096;

/// What `Size` says.
#[expect(clippy::cast_possible_truncation, reason = "it has 80 bytes")]
const SIZE: u16 = size_of::<PciVirtualizationInterface>() as u16;

/// What a `Context` names.
struct Interface {
    references: AtomicUsize,
    function: Arc<dyn PciVirtualization>,
    /// Whose device it is, for one of a process: a child of a fork has none of its parent's.
    process: Option<u32>,
}

/// Makes an interface with one reference.
pub(crate) fn publish(
    function: Arc<dyn PciVirtualization>,
    process: Option<u32>,
) -> Result<PciVirtualizationInterface, Failure> {
    let context = INTERFACES.insert(Arc::new(Interface {
        references: AtomicUsize::new(1),
        function,
        process,
    }))?;
    Ok(PciVirtualizationInterface {
        size: SIZE,
        version: PCI_VIRTUALIZATION_INTERFACE_VERSION,
        context,
        interface_reference: Some(reference),
        interface_dereference: Some(dereference),
        set_virtual_function_data: Some(set_virtual_function_data),
        get_virtual_function_data: Some(get_virtual_function_data),
        get_location: Some(get_location),
        get_resources: Some(get_resources),
        enable_virtualization: Some(enable_virtualization),
        get_virtual_function_probed_bars: Some(get_virtual_function_probed_bars),
    })
}

/// What a `Context` names; without it kept in use, since calls may wait.
fn function(context: *mut c_void) -> Result<Arc<dyn PciVirtualization>, Refusal> {
    let interface = INTERFACES
        .get(context)
        .map_err(|failure| Refusal::new(NtStatus::INVALID_DEVICE_STATE, failure.text))?;
    if interface
        .process
        .is_some_and(|process| process != std::process::id())
    {
        return Err(VirtualizationError::Gone.into());
    }
    Ok(Arc::clone(&interface.function))
}

/// Changes how often a `Context` is referenced, unless that is 0 by now; how often it was.
fn count(context: *mut c_void, change: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let interface = INTERFACES
        .share(context)
        .map_err(|failure| remember(failure.text))
        .ok()?;
    let change = |references| (references != 0).then(|| change(references))?;
    interface
        .references
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
        .ok()
}

/// `InterfaceReference`.
unsafe extern "C" fn reference(context: *mut c_void) {
    value((), || {
        count(context, |references| references.checked_add(1));
    });
}

/// `InterfaceDereference`.
unsafe extern "C" fn dereference(context: *mut c_void) {
    value((), || {
        if count(context, |references| references.checked_sub(1)) == Some(1) {
            INTERFACES.remove(context);
        }
    });
}

/// How many bytes a transfer can have at most.
fn clamped(length: u32) -> usize {
    length.min(CONFIG_SPACE) as usize
}

/// The bytes that were moved, of which there are not more than config space has.
fn moved(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(CONFIG_SPACE)
}

/// `SetVirtualFunctionData`.
///
/// # Safety
/// `buffer` is null or valid for reads of `length` bytes.
unsafe extern "C" fn set_virtual_function_data(
    context: *mut c_void,
    vf: u16,
    buffer: *mut c_void,
    offset: u32,
    length: u32,
) -> u32 {
    number(|| {
        let function = function(context)?;
        if buffer.is_null() {
            return Err(Refusal::null("Buffer"));
        }
        // SAFETY: not null, so valid for as many bytes by the contract.
        let data = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), clamped(length)) };
        Ok(moved(function.set_virtual_function_data(vf, offset, data)?))
    })
}

/// `GetVirtualFunctionData`.
///
/// # Safety
/// `buffer` is null or valid for writes of `length` bytes.
unsafe extern "C" fn get_virtual_function_data(
    context: *mut c_void,
    vf: u16,
    buffer: *mut c_void,
    offset: u32,
    length: u32,
) -> u32 {
    number(|| {
        let function = function(context)?;
        if buffer.is_null() {
            return Err(Refusal::null("Buffer"));
        }
        // Filled here first: on a failure the caller's is as it was, and it need not be initialized.
        let mut data = [0; CONFIG_SPACE as usize];
        let data = &mut data[..clamped(length)];
        let bytes = function.virtual_function_data(vf, offset, data)?;
        // SAFETY: not null, so valid for `length` bytes by the contract, of which these are not more.
        unsafe {
            buffer
                .cast::<u8>()
                .copy_from_nonoverlapping(data.as_ptr(), bytes.min(data.len()));
        }
        Ok(moved(bytes))
    })
}

/// `GetLocation`.
///
/// # Safety
/// `segment`, `bus` and `function_number` are null or valid for writes.
unsafe extern "C" fn get_location(
    context: *mut c_void,
    vf: u16,
    segment: *mut u16,
    bus: *mut u8,
    function_number: *mut u8,
) -> Ntstatus {
    status(|| {
        let location = function(context)?.location(vf);
        if matches!(location, Err(VirtualizationError::Gone)) {
            return Err(VirtualizationError::Gone.into());
        }
        let places = [
            (segment.is_null(), "SegmentNumber"),
            (bus.is_null(), "BusNumber"),
            (function_number.is_null(), "FunctionNumber"),
        ];
        if let Some((_, name)) = places.iter().find(|(null, _)| *null) {
            return Err(Refusal::null(name));
        }
        let location = location?;
        let number = u16::try_from(location.segment).map_err(|_| {
            Refusal::new(
                NtStatus::NOT_SUPPORTED,
                format!(
                    "VF {vf} is in domain {:#x}: above 0xffff there is no segment number for it",
                    location.segment
                ),
            )
        })?;
        // SAFETY: none is null, so they are valid for writes by the contract.
        unsafe {
            segment.write_unaligned(number);
            bus.write(location.routing_id.bus());
            function_number.write(location.routing_id.ari_function());
        }
        Ok(())
    })
}

/// `GetResources`.
///
/// # Safety
/// `buses` is null or valid for writes.
unsafe extern "C" fn get_resources(context: *mut c_void, buses: *mut u8) {
    status(|| {
        let function = function(context);
        if buses.is_null() {
            return Err(Refusal::null("CapturedBusNumbers"));
        }
        let captured = function
            .as_ref()
            .map_or(0, |function| function.captured_buses());
        // SAFETY: not null, so valid for writes by the contract.
        unsafe { buses.write(captured) };
        function.map(drop)
    });
}

/// `EnableVirtualization`.
unsafe extern "C" fn enable_virtualization(
    context: *mut c_void,
    num_vfs: u16,
    vf_migration: Boolean,
    migration_interrupt: Boolean,
    enable: Boolean,
) -> Ntstatus {
    status(|| {
        let request = EnableVirtualization {
            num_vfs,
            vf_migration: vf_migration != 0,
            migration_interrupt: migration_interrupt != 0,
            enable: enable != 0,
        };
        Ok(function(context)?.enable_virtualization(request)?)
    })
}

/// `GetVirtualFunctionProbedBars`.
///
/// # Safety
/// `values` is null or valid for writes of six.
unsafe extern "C" fn get_virtual_function_probed_bars(
    context: *mut c_void,
    values: *mut u32,
) -> Ntstatus {
    status(|| {
        let probed = function(context)?.probed_bars();
        if matches!(probed, Err(VirtualizationError::Gone)) {
            return Err(VirtualizationError::Gone.into());
        }
        if values.is_null() {
            return Err(Refusal::null("BaseRegisterValues"));
        }
        // SAFETY: not null, so valid for six by the contract.
        unsafe { values.cast::<[u32; 6]>().write_unaligned(probed?) };
        Ok(())
    })
}
