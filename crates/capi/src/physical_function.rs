//! The creation of physical functions, and the supply of their VFs.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Display;
use std::sync::{Arc, Weak};

use hdv::pci::Port;
use hdv::pci::spec::sriov::PAGE_SIZES_REQUIRED;
use hdv::{Details, DeviceError, DeviceInstance, Function, callback_function};
use hdv_sriov::{EmulatedPf, PfOptions, Placement, VirtualFunctionLayout, VirtualFunctionSource};

use crate::callbacks::{Creation, TableCallbacks, check};
use crate::create::{device_ids, hand_out, table};
use crate::device::{Device, Reservation};
use crate::error::Failure;
use crate::guard::{self, call_out};
use crate::host::host;
use crate::pointers::{copied, out};
use crate::types::{
    Guid, HdvDevice, HdvHost, Hresult, PHYSICAL_FUNCTION_VERSION_1, PhysicalFunction,
    SupplyVirtualFunction,
};

/// The callback that supplies VFs, with the PF's context. It keeps to its type and takes calls from any thread, as
/// the PF's other callbacks do, by the contract of `OpenHdvCreatePhysicalFunction`.
struct Supply {
    callback: SupplyVirtualFunction,
    context: *mut c_void,
    /// Those that are not carried yet.
    supplied: HashMap<u16, Weak<Device>>,
}

// SAFETY: the context is only handed to the callback, which takes calls from any thread.
unsafe impl Send for Supply {}

impl Supply {
    fn supply(&mut self, vf: u16) -> Result<Box<dyn Function>, Failure> {
        let reservation = Reservation::new()?;
        let mut interface = std::ptr::null();
        let mut context = std::ptr::null_mut();
        // SAFETY: see the type; both places live until after the call.
        let result = call_out("SupplyVirtualFunction", || unsafe {
            (self.callback)(
                self.context,
                vf,
                reservation.handle(),
                &raw mut interface,
                &raw mut context,
            )
        });
        check("SupplyVirtualFunction", result)?;
        // SAFETY: by the contract of the callback.
        let table = unsafe { table(interface) }?;
        let device = Arc::clone(reservation.device());
        let callbacks = TableCallbacks::supplied(table, context, reservation);
        let function = callback_function(Box::new(callbacks));
        device.supplied(&*function);
        self.supplied.insert(vf, Arc::downgrade(&device));
        Ok(function)
    }
}

impl VirtualFunctionSource for Supply {
    fn create(&mut self, vf: u16) -> Result<Box<dyn Function>, DeviceError> {
        self.supply(vf).map_err(|failure| {
            DeviceError::new(format!("VF {vf}: {}", failure.text)).with_code(failure.code)
        })
    }

    fn created(&mut self, vf: u16, instance: &DeviceInstance) {
        if let Some(device) = self
            .supplied
            .remove(&vf)
            .and_then(|device| device.upgrade())
        {
            device.carried(instance);
        }
    }
}

/// What the caller said, checked as far as nothing else is needed for it.
struct Description {
    layout: VirtualFunctionLayout,
    options: PfOptions,
    supply: SupplyVirtualFunction,
}

impl Description {
    /// # Safety
    /// Null, or an `OPENHDV_PHYSICAL_FUNCTION`.
    unsafe fn read(place: *const PhysicalFunction) -> Result<Self, Failure> {
        // The version says what follows it.
        // SAFETY: every version begins with it.
        let version: i32 = unsafe { copied(place.cast(), "PhysicalFunction") }?;
        if version != PHYSICAL_FUNCTION_VERSION_1 {
            return Err(Failure::argument(format!(
                "version {version} of OPENHDV_PHYSICAL_FUNCTION is not known: set Version to \
                 OpenHdvPhysicalFunctionVersion1"
            )));
        }
        // SAFETY: by the contract, for this version.
        let given = unsafe { copied(place, "PhysicalFunction") }?;
        if given.reserved != 0 {
            return Err(field(
                "Reserved",
                &format!("{:#x} is not 0", given.reserved),
            ));
        }
        let supply = given
            .supply_virtual_function
            .ok_or_else(|| Failure::null("the callback SupplyVirtualFunction"))?;
        Ok(Self {
            layout: layout(&given)?,
            options: options(&given)?,
            supply,
        })
    }
}

/// What is wrong with a member.
fn field(name: &str, what: &impl Display) -> Failure {
    Failure::argument(format!("OPENHDV_PHYSICAL_FUNCTION, {name}: {what}"))
}

fn layout(given: &PhysicalFunction) -> Result<VirtualFunctionLayout, Failure> {
    if given.total_vfs == 0 {
        return Err(field("TotalVFs", &"0 VFs make no physical function"));
    }
    let page_sizes = match given.supported_page_sizes {
        0 => PAGE_SIZES_REQUIRED,
        sizes if sizes & PAGE_SIZES_REQUIRED == PAGE_SIZES_REQUIRED => sizes,
        sizes => {
            return Err(field(
                "SupportedPageSizes",
                &format!("{sizes:#x} lacks some of those required, {PAGE_SIZES_REQUIRED:#x}"),
            ));
        }
    };
    let details = Details {
        probed_bars: given.probed_bars,
        ..Details::default()
    };
    // Its text begins with the register.
    let bars = details.bars()?;
    Ok(VirtualFunctionLayout {
        bars,
        ..VirtualFunctionLayout::new(given.total_vfs, given.virtual_function_device_id)
            .page_sizes(page_sizes)
    })
}

fn options(given: &PhysicalFunction) -> Result<PfOptions, Failure> {
    let port = Port::new(given.secondary_bus, given.subordinate_bus)
        .map_err(|error| field("SubordinateBus", &error))?
        .ari_forwarding(given.ari_forwarding != 0);
    let placement = Placement::new(given.segment, port, given.device, given.function)
        .map_err(|error| field("Device and Function", &error))?;
    Ok(PfOptions {
        guest_controls_sriov: given.guest_controls_sriov != 0,
        ..PfOptions::new(placement)
    })
}

/// Creates a physical function.
///
/// # Safety
/// Pointers are null or valid; `interface` is an `HDV_PCI_DEVICE_INTERFACE`, `physical_function` an
/// `OPENHDV_PHYSICAL_FUNCTION`, whose callbacks keep to their types and may be called with `context` on any
/// thread, one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvCreatePhysicalFunction(
    host_handle: HdvHost,
    class_id: *const Guid,
    instance_id: *const Guid,
    interface: *const c_void,
    context: *mut c_void,
    physical_function: *const PhysicalFunction,
    place: *mut HdvDevice,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { out(place, "DeviceHandle", std::ptr::null_mut()) }?;
        let host = host(host_handle)?;
        // SAFETY: by the contract.
        let ids = unsafe { device_ids(class_id, instance_id) }?;
        // SAFETY: by the contract.
        let table = unsafe { table(interface) }?;
        // SAFETY: by the contract.
        let description = unsafe { Description::read(physical_function) }?;
        let creation = Arc::new(Creation::default());
        let callbacks = TableCallbacks::new(table, context, Arc::clone(&creation));
        let supply = Supply {
            callback: description.supply,
            context,
            supplied: HashMap::new(),
        };
        let pf = EmulatedPf::create(
            host.host(),
            ids,
            callback_function(Box::new(callbacks)),
            &description.layout,
            Box::new(supply),
            description.options,
        )?;
        let instance = pf.instance().clone();
        hand_out(&host, &instance, Some(pf), &creation, &place)
    })
}
