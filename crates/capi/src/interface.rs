//! `PCI_VIRTUALIZATION_INTERFACE`: what its `Context` names, and its routines. How it is had is in `query`.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hdv_sriov::{EnableVirtualization, NtStatus, PciVirtualization, VirtualizationError};

use crate::error::{Failure, remember};
use crate::guard::value;
use crate::handles::{Kind, Table};
use crate::nt::{Refusal, number, status};
use crate::process::Process;
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
    /// Whose device it is, for one of a process.
    process: Option<Process>,
}

/// Makes an interface with one reference.
pub(crate) fn publish(
    function: Arc<dyn PciVirtualization>,
    process: Option<Process>,
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
    if interface.process.is_some_and(|process| !process.is_this()) {
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use hdv::HostError;
    use hdv::pci::RoutingId;
    use hdv_sriov::Location;

    use super::*;
    use crate::error::last;

    /// What every routine of it gives.
    #[derive(Debug)]
    struct Answers(fn() -> Result<(), VirtualizationError>);

    impl PciVirtualization for Answers {
        fn virtual_function_data(
            &self,
            _: u16,
            _: u32,
            data: &mut [u8],
        ) -> Result<usize, VirtualizationError> {
            data.fill(7);
            self.0().map(|()| data.len())
        }

        fn set_virtual_function_data(
            &self,
            _: u16,
            _: u32,
            data: &[u8],
        ) -> Result<usize, VirtualizationError> {
            self.0().map(|()| data.len())
        }

        fn location(&self, _: u16) -> Result<Location, VirtualizationError> {
            self.0().map(|()| Location {
                segment: 0x1234,
                routing_id: RoutingId::with_ari(0x56, 0x78),
            })
        }

        fn captured_buses(&self) -> u8 {
            3
        }

        fn enable_virtualization(
            &self,
            _: EnableVirtualization,
        ) -> Result<(), VirtualizationError> {
            self.0()
        }

        fn probed_bars(&self) -> Result<[u32; 6], VirtualizationError> {
            self.0().map(|()| [1, 2, 3, 4, 5, 6])
        }
    }

    fn table(answers: fn() -> Result<(), VirtualizationError>) -> PciVirtualizationInterface {
        publish(Arc::new(Answers(answers)), None).unwrap()
    }

    /// What the routines give: status of enabling, location and probed BARs, and the bytes of a transfer.
    fn ask(table: &PciVirtualizationInterface, null: bool) -> ([u32; 3], [u32; 2]) {
        let (mut segment, mut bus, mut function) = (0, 0, 0);
        let mut bars = [0; 6];
        let mut data = [0_u8; 8];
        let place = |place: *mut u32| if null { std::ptr::null_mut() } else { place };
        let context = table.context;
        // SAFETY: everything is valid.
        let (statuses, bytes) = unsafe {
            let segment = if null {
                std::ptr::null_mut()
            } else {
                &raw mut segment
            };
            let statuses = [
                table.enable_virtualization.unwrap()(context, 1, 0, 0, 1),
                table.get_location.unwrap()(context, 0, segment, &raw mut bus, &raw mut function),
                table.get_virtual_function_probed_bars.unwrap()(context, place(bars.as_mut_ptr())),
            ];
            let buffer = data.as_mut_ptr().cast();
            let bytes = [
                table.get_virtual_function_data.unwrap()(context, 0, buffer, 0, 8),
                table.set_virtual_function_data.unwrap()(context, 0, buffer, 0, 8),
            ];
            (statuses, bytes)
        };
        let written = bus != 0 || bars[0] != 0 || data[0] != 0;
        assert_eq!(written, bytes[0] != 0, "written on a failure");
        (statuses.map(i32::cast_unsigned), bytes)
    }

    fn end(table: &PciVirtualizationInterface) {
        // SAFETY: its own context.
        unsafe { table.interface_dereference.unwrap()(table.context) };
    }

    #[test]
    fn every_error_has_its_status_and_leaves_its_text() {
        fn refused() -> io::Error {
            io::Error::from_raw_os_error(16)
        }
        type Answer = fn() -> Result<(), VirtualizationError>;
        let pairs: [(Answer, NtStatus, &str); 10] = [
            (
                || Err(VirtualizationError::Gone),
                NtStatus::INVALID_DEVICE_STATE,
                "gone",
            ),
            (
                || Err(VirtualizationError::NotCapable),
                NtStatus::INVALID_DEVICE_STATE,
                "no SR-IOV",
            ),
            (
                || {
                    Err(VirtualizationError::NoSuchVf {
                        vf: 9,
                        total_vfs: 8,
                    })
                },
                NtStatus::INVALID_PARAMETER,
                "no VF 9",
            ),
            (
                || Err(VirtualizationError::NotPoweredOn),
                NtStatus::INVALID_DEVICE_STATE,
                "not powered on",
            ),
            (
                || Err(VirtualizationError::InsideCall),
                NtStatus::POSSIBLE_DEADLOCK,
                "another thread",
            ),
            (
                || Err(VirtualizationError::Device(HostError::Closed)),
                NtStatus::UNSUCCESSFUL,
                "cannot be enabled",
            ),
            (
                || {
                    Err(VirtualizationError::AccessDenied {
                        path: PathBuf::from("/sys/sriov_numvfs"),
                        source: io::ErrorKind::PermissionDenied.into(),
                    })
                },
                NtStatus::ACCESS_DENIED,
                "/sys/sriov_numvfs",
            ),
            (
                || {
                    Err(VirtualizationError::Refused {
                        path: PathBuf::from("/sys/sriov_numvfs"),
                        source: refused(),
                        reason: Some("as the test wants".to_owned()),
                    })
                },
                NtStatus::UNSUCCESSFUL,
                "as the test wants",
            ),
            (
                || Err(VirtualizationError::Migration),
                NtStatus::INVALID_PARAMETER,
                "migration",
            ),
            (
                || Err(VirtualizationError::AlreadyDisabled),
                NtStatus::INVALID_DEVICE_STATE,
                "already",
            ),
        ];
        for (answer, expected, part) in pairs {
            let table = table(answer);
            remember("another".into());
            assert_eq!(ask(&table, false), ([expected.0; 3], [0; 2]), "{part}");
            last(|text| assert!(text.contains(part), "{part}: {text}"));
            end(&table);
        }
    }

    #[test]
    fn null_is_a_wrong_parameter_unless_the_device_is_gone() {
        let success = table(|| Ok(()));
        assert_eq!(ask(&success, false), ([0; 3], [8; 2]));
        let wrong = NtStatus::INVALID_PARAMETER.0;
        let state = NtStatus::INVALID_DEVICE_STATE.0;
        let not_capable = table(|| Err(VirtualizationError::NotCapable));
        assert_eq!(ask(&not_capable, true).0, [state, wrong, wrong]);
        let gone = table(|| Err(VirtualizationError::Gone));
        assert_eq!(ask(&gone, true).0, [state; 3]);
        for table in [success, not_capable, gone] {
            end(&table);
        }
    }

    #[test]
    fn a_device_of_another_process_is_gone() {
        let table = publish(Arc::new(Answers(|| Ok(()))), Some(Process::another())).unwrap();
        let state = NtStatus::INVALID_DEVICE_STATE.0;
        assert_eq!(ask(&table, false), ([state; 3], [0; 2]));
        let mut buses = 9;
        // SAFETY: everything is valid.
        unsafe { table.get_resources.unwrap()(table.context, &raw mut buses) };
        assert_eq!(buses, 0);
        end(&table);
    }
}
