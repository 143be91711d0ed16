//! Interrupts.

use hdv::Delivery;

use crate::device::{device, unused};
use crate::error::{Failure, codes};
use crate::guard;
use crate::types::{HdvDevice, Hresult};

/// Delivers an interrupt by its message.
#[unsafe(no_mangle)]
pub extern "C" fn HdvDeliverGuestInterrupt(
    requestor: HdvDevice,
    msi_address: u64,
    msi_data: u32,
) -> Hresult {
    guard::result(|| {
        let device = device(requestor)?;
        match device.interrupts()?.deliver(msi_address, msi_data) {
            Some(Delivery::Signalled | Delivery::Pending) => Ok(()),
            Some(Delivery::Disabled) | None if device.has_client().is_none() => Err(unused()),
            Some(Delivery::Disabled) | None => Err(Failure::new(
                codes::NOT_FOUND,
                format!(
                    "no vector that the guest enabled has the message {msi_address:#x}, \
                     {msi_data:#x}: read it from the MSI capability or the MSI-X table when the \
                     interrupt is due"
                ),
            )),
        }
    })
}
