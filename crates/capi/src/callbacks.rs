//! A device's callbacks, called through the copy of its table.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hdv::{BarIndex, Details, DeviceCallbacks, DeviceError, PnpId};

use crate::device::Reservation;
use crate::error::Failure;
use crate::guard::call_out;
use crate::strings::WideStrings;
use crate::types::{
    Event, GetDetails, HdvPciDeviceInterface, HdvPciPnpId, Hresult, Notice, ReadConfigSpace,
    ReadInterceptedMemory, SetConfiguration, WriteConfigSpace, WriteInterceptedMemory,
};

/// `HDV_PCI_BAR_COUNT`.
const PROBED_BARS: u32 = 6;

/// The ten callbacks, none of them missing.
#[derive(Clone, Copy)]
pub(crate) struct CallbackTable {
    initialize: Event,
    teardown: Notice,
    set_configuration: SetConfiguration,
    get_details: GetDetails,
    start: Event,
    stop: Notice,
    read_config_space: ReadConfigSpace,
    write_config_space: WriteConfigSpace,
    read_intercepted_memory: ReadInterceptedMemory,
    write_intercepted_memory: WriteInterceptedMemory,
}

impl CallbackTable {
    pub(crate) fn new(interface: &HdvPciDeviceInterface) -> Result<Self, Failure> {
        fn required<T>(callback: Option<T>, name: &str) -> Result<T, Failure> {
            callback.ok_or_else(|| Failure::null(&format!("the callback {name}")))
        }
        Ok(Self {
            initialize: required(interface.initialize, "Initialize")?,
            teardown: required(interface.teardown, "Teardown")?,
            set_configuration: required(interface.set_configuration, "SetConfiguration")?,
            get_details: required(interface.get_details, "GetDetails")?,
            start: required(interface.start, "Start")?,
            stop: required(interface.stop, "Stop")?,
            read_config_space: required(interface.read_config_space, "ReadConfigSpace")?,
            write_config_space: required(interface.write_config_space, "WriteConfigSpace")?,
            read_intercepted_memory: required(
                interface.read_intercepted_memory,
                "ReadInterceptedMemory",
            )?,
            write_intercepted_memory: required(
                interface.write_intercepted_memory,
                "WriteInterceptedMemory",
            )?,
        })
    }
}

/// For a device that was not powered on, which came first: `HdvCreateDeviceInstance` returned it, or another
/// thread tore it down, without a call of Teardown then. One that was powered on gets that call, and is returned
/// as if it came later.
#[derive(Default)]
pub(crate) struct Creation(AtomicU8);

impl Creation {
    const UNDER_WAY: u8 = 0;
    const RETURNED: u8 = 1;
    const TORN_DOWN: u8 = 2;

    /// The device is about to be returned; false if it was torn down before.
    pub(crate) fn returned(&self) -> bool {
        self.0
            .compare_exchange(
                Self::UNDER_WAY,
                Self::RETURNED,
                Ordering::SeqCst,
                Ordering::SeqCst,
            )
            .is_ok()
    }

    /// The device is torn down; whether it was returned before.
    fn torn_down(&self) -> bool {
        self.0.swap(Self::TORN_DOWN, Ordering::SeqCst) == Self::RETURNED
    }
}

/// A table with its context. The callbacks keep to their types and take calls from any thread, one at a
/// time, by the contract of `HdvCreateDeviceInstance`: what every call below rests on.
pub(crate) struct TableCallbacks {
    table: CallbackTable,
    context: *mut c_void,
    creation: Arc<Creation>,
    initialized: bool,
    /// Ends with them.
    _handle: Option<Reservation>,
}

// SAFETY: the context is only handed to the callbacks, which take calls from any thread.
unsafe impl Send for TableCallbacks {}

impl TableCallbacks {
    pub(crate) fn new(table: CallbackTable, context: *mut c_void, creation: Arc<Creation>) -> Self {
        Self {
            table,
            context,
            creation,
            initialized: false,
            _handle: None,
        }
    }

    /// Those of a device that is its creator's from the beginning: Teardown comes in any case, and then the
    /// handle ends.
    pub(crate) fn supplied(
        table: CallbackTable,
        context: *mut c_void,
        handle: Reservation,
    ) -> Self {
        let creation = Creation(AtomicU8::new(Creation::RETURNED));
        Self {
            _handle: Some(handle),
            ..Self::new(table, context, Arc::new(creation))
        }
    }
}

pub(crate) fn check(name: &str, result: Hresult) -> Result<(), DeviceError> {
    if result >= 0 {
        Ok(())
    } else {
        Err(DeviceError::new(format!("{name} failed with {result:#010x}")).with_code(result))
    }
}

impl DeviceCallbacks for TableCallbacks {
    fn initialize(&mut self) -> Result<(), DeviceError> {
        self.initialized = true;
        // SAFETY: see the type.
        let result = call_out("Initialize", || unsafe {
            (self.table.initialize)(self.context)
        });
        check("Initialize", result)
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        let count = u32::try_from(values.len())
            .map_err(|_| DeviceError::new("there are too many configuration values"))?;
        let values = WideStrings::new(values);
        // SAFETY: see the type; the strings live until after the call.
        let result = call_out("SetConfiguration", || unsafe {
            (self.table.set_configuration)(self.context, count, values.as_ptr())
        });
        check("SetConfiguration", result)
    }

    fn get_details(&mut self) -> Result<Details, DeviceError> {
        let mut pnp_id = HdvPciPnpId::default();
        let mut probed_bars = [0; PROBED_BARS as usize];
        // SAFETY: see the type; both places live until after the call.
        let result = call_out("GetDetails", || unsafe {
            (self.table.get_details)(
                self.context,
                &raw mut pnp_id,
                PROBED_BARS,
                probed_bars.as_mut_ptr(),
            )
        });
        check("GetDetails", result)?;
        Ok(Details {
            pnp_id: PnpId {
                vendor_id: pnp_id.vendor_id,
                device_id: pnp_id.device_id,
                revision_id: pnp_id.revision_id,
                prog_if: pnp_id.prog_if,
                sub_class: pnp_id.sub_class,
                base_class: pnp_id.base_class,
                sub_vendor_id: pnp_id.sub_vendor_id,
                sub_system_id: pnp_id.sub_system_id,
            },
            probed_bars,
        })
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        // SAFETY: see the type.
        let result = call_out("Start", || unsafe { (self.table.start)(self.context) });
        check("Start", result)
    }

    fn stop(&mut self) {
        // SAFETY: see the type.
        call_out("Stop", || unsafe { (self.table.stop)(self.context) });
    }

    fn teardown(&mut self) {
        // A device that was neither returned nor ever called is the caller's to clean up: it does
        // not know of it.
        if self.initialized || self.creation.torn_down() {
            // SAFETY: see the type.
            call_out("Teardown", || unsafe {
                (self.table.teardown)(self.context);
            });
        }
    }

    fn read_config_space(&mut self, offset: u32) -> Result<u32, DeviceError> {
        let mut value = 0;
        // SAFETY: see the type; the place lives until after the call.
        let result = call_out("ReadConfigSpace", || unsafe {
            (self.table.read_config_space)(self.context, offset, &raw mut value)
        });
        check("ReadConfigSpace", result)?;
        Ok(value)
    }

    fn write_config_space(&mut self, offset: u32, value: u32) -> Result<(), DeviceError> {
        // SAFETY: see the type.
        let result = call_out("WriteConfigSpace", || unsafe {
            (self.table.write_config_space)(self.context, offset, value)
        });
        check("WriteConfigSpace", result)
    }

    fn read_intercepted_memory(
        &mut self,
        bar: BarIndex,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        // SAFETY: see the type; the buffer has the length that is passed.
        let result = call_out("ReadInterceptedMemory", || unsafe {
            (self.table.read_intercepted_memory)(
                self.context,
                selector(bar),
                offset,
                data.len() as u64,
                data.as_mut_ptr(),
            )
        });
        check("ReadInterceptedMemory", result)
    }

    fn write_intercepted_memory(
        &mut self,
        bar: BarIndex,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        // SAFETY: see the type; the buffer has the length that is passed.
        let result = call_out("WriteInterceptedMemory", || unsafe {
            (self.table.write_intercepted_memory)(
                self.context,
                selector(bar),
                offset,
                data.len() as u64,
                data.as_ptr(),
            )
        });
        check("WriteInterceptedMemory", result)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a BAR's number is below 6"
)]
fn selector(bar: BarIndex) -> i32 {
    bar.get() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_returned_or_torn_down_before() {
        let creation = Creation::default();
        assert!(creation.returned());
        assert!(creation.torn_down());
        let creation = Creation::default();
        assert!(!creation.torn_down());
        assert!(!creation.returned(), "its Teardown was left out");
    }
}
