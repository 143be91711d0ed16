//! Making the VFs of a PF: all of them or none.

use std::sync::Arc;

use hdv::pci::SriovView;
use hdv::{Bar, BarIndex, BroughtFunction, DeviceError, HostError, Identity};

use super::VirtualFunctionSource;
use super::caught::caught;
use super::vf_function::{Declared, VfFunction};

/// VFs that nobody carries yet: they are torn down unless they are taken.
#[derive(Default)]
struct Made(Vec<BroughtFunction>);

impl Drop for Made {
    fn drop(&mut self) {
        for mut made in self.0.drain(..) {
            let torn_down = caught(|| made.function.teardown());
            if torn_down.is_none() || caught(|| drop(made)).is_none() {
                tracing::error!("a VF that was not carried yet panicked in teardown");
            }
        }
    }
}

/// Makes the VFs that the registers ask for.
///
/// # Errors
/// One cannot be made; those made before it are torn down.
pub(super) fn make(
    source: &mut dyn VirtualFunctionSource,
    registers: &SriovView,
    pf: Identity,
    bars: [Option<Bar>; BarIndex::ALL.len()],
) -> Result<Vec<BroughtFunction>, HostError> {
    let identity = Identity {
        device_id: registers.vf_device_id,
        ..pf
    };
    let routing = registers.routing;
    let mut made = Made::default();
    let declared = Arc::new(Declared {
        vendor_id: identity.vendor_id,
        device_id: identity.device_id,
        bars,
    });
    for vf in 0..registers.active_vfs() {
        let failed = |error: DeviceError| HostError::Brought {
            vf,
            source: Box::new(error.into()),
        };
        let function = source.create(vf).map_err(failed)?;
        let mut function = VfFunction::new(Arc::clone(&declared), function);
        let checked = if source.known_when_made() {
            function.check()
        } else {
            Ok(())
        };
        // Also a wrong one, so that it is torn down.
        made.0.push(BroughtFunction {
            vf,
            // The layout was checked: each VF has a routing id.
            offset: routing
                .first_vf_offset
                .wrapping_add(routing.vf_stride.wrapping_mul(vf)),
            identity,
            function: Box::new(function),
        });
        checked.map_err(failed)?;
    }
    Ok(std::mem::take(&mut made.0))
}
