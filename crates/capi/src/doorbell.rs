//! Doorbells and doorbell pages.

use hdv::{AccessSize, Doorbell};

use crate::descriptor;
use crate::device::{bar, device};
use crate::error::Failure;
use crate::guard;
use crate::types::{DOORBELL_ANY_VALUE, Handle, HdvDevice, Hresult};

fn doorbell(selector: i32, offset: u64, value: u64, flags: u64) -> Result<Doorbell, Failure> {
    // The low 32 bits count: some callers sign-extend them.
    let [low @ .., _, _, _, _] = flags.to_le_bytes();
    let flags = u32::from_le_bytes(low);
    let size = match flags & !DOORBELL_ANY_VALUE {
        0 => None,
        1 => Some(AccessSize::Byte),
        2 => Some(AccessSize::Word),
        3 => Some(AccessSize::Dword),
        4 => Some(AccessSize::Qword),
        _ => {
            return Err(Failure::argument(format!(
                "{flags:#x} are no HDV_DOORBELL_FLAGS: there are sizes of 0 to 4 and \
                 HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE, 0x80000000"
            )));
        }
    };
    Ok(Doorbell {
        bar: bar(selector)?,
        offset,
        size,
        value: (flags & DOORBELL_ANY_VALUE == 0).then_some(value),
    })
}

/// Registers a doorbell.
#[unsafe(no_mangle)]
pub extern "C" fn HdvRegisterDoorbell(
    requestor: HdvDevice,
    bar_index: i32,
    bar_offset: u64,
    trigger_value: u64,
    flags: u64,
    event: Handle,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        let doorbell = doorbell(bar_index, bar_offset, trigger_value, flags)?;
        descriptor::with(event, "DoorbellEvent", |event| {
            Ok(device.mmio()?.register_doorbell(doorbell, event)?)
        })
    })
}

/// Takes a doorbell back.
#[unsafe(no_mangle)]
pub extern "C" fn HdvUnregisterDoorbell(
    requestor: HdvDevice,
    bar_index: i32,
    bar_offset: u64,
    trigger_value: u64,
    flags: u64,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        let doorbell = doorbell(bar_index, bar_offset, trigger_value, flags)?;
        Ok(device.mmio()?.unregister_doorbell(&doorbell)?)
    })
}

/// Registers a doorbell page.
#[unsafe(no_mangle)]
pub extern "C" fn HdvRegisterDoorbellPage(
    requestor: HdvDevice,
    bar_index: i32,
    page_index: u64,
    event: Handle,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        let bar = bar(bar_index)?;
        descriptor::with(event, "DoorbellEvent", |event| {
            let mmio = device.mmio()?;
            Ok(mmio.register_doorbell_page(bar, page_index, event)?)
        })
    })
}

/// Takes a doorbell page back.
#[unsafe(no_mangle)]
pub extern "C" fn HdvUnregisterDoorbellPage(
    requestor: HdvDevice,
    bar_index: i32,
    page_index: u64,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        let mmio = device.mmio()?;
        Ok(mmio.unregister_doorbell_page(bar(bar_index)?, page_index)?)
    })
}
