//! Where the VFs of a PF are: First VF Offset, VF Stride and what follows from them.

use crate::error::ConfigError;
use crate::port::Port;
use crate::routing_id::RoutingId;

/// Functions that a device without ARI has on its own bus.
const FUNCTIONS: u16 = 8;
/// Functions of a bus.
const BUS: u16 = 256;

/// First VF Offset and VF Stride (PCI Express Base Specification 9.3.3.9, 9.3.3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VfRouting {
    /// From the routing id of the PF to that of its first VF, 1 to 65535.
    pub first_vf_offset: u16,
    /// From the routing id of a VF to that of the next, 1 to 65535; any for a single VF.
    pub vf_stride: u16,
}

impl VfRouting {
    /// One VF after the other, right behind a PF that is its device's last one, of which `pf` is
    /// the place; without ARI, on the first captured bus if the device's 8 functions do not hold
    /// all of `total_vfs`.
    #[must_use]
    pub fn packed(pf: RoutingId, total_vfs: u16, ari: bool) -> Self {
        let room = FUNCTIONS - 1 - u16::from(pf.function());
        let first_vf_offset = if ari || total_vfs <= room {
            1
        } else {
            BUS - u16::from(pf.ari_function())
        };
        Self {
            first_vf_offset,
            vf_stride: 1,
        }
    }

    /// The routing id of VF `vf`, counted from 0; `None` if it is above ff:1f.7.
    #[must_use]
    pub fn routing_id(self, pf: RoutingId, vf: u16) -> Option<RoutingId> {
        let distance = self.distance(vf)?;
        pf.get().checked_add(distance).map(RoutingId::from)
    }

    /// Which VF is at `id`, counted from 0, if there are `num_vfs`; `None` if none is.
    #[must_use]
    pub fn vf_at(self, pf: RoutingId, id: RoutingId, num_vfs: u16) -> Option<u16> {
        let distance = id.get().checked_sub(pf.get())?;
        let beyond = distance.checked_sub(self.first_vf_offset)?;
        let vf = match beyond.checked_rem(self.vf_stride) {
            None if beyond == 0 => 0,
            Some(0) => beyond / self.vf_stride,
            _ => return None,
        };
        (vf < num_vfs).then_some(vf)
    }

    /// How many VFs, from the first one on, the device can have under `port`: 0 to 65535, up to
    /// the first one that requests do not [reach](Port::reaches).
    #[must_use]
    pub fn capacity(self, pf: RoutingId, device_ari: bool, port: Port) -> u16 {
        if self.first_vf_offset == 0 {
            return 0;
        }
        // Without a stride every VF would be where the first one is.
        let most = if self.vf_stride == 0 { 1 } else { u16::MAX };
        let reached = |vf: &u16| {
            self.routing_id(pf, *vf)
                .is_some_and(|id| port.reaches(pf, device_ari, id))
        };
        (0..most).find(|vf| !reached(vf)).unwrap_or(most)
    }

    fn distance(self, vf: u16) -> Option<u16> {
        vf.checked_mul(self.vf_stride)?
            .checked_add(self.first_vf_offset)
    }

    /// No VF is where the PF or another VF is, and each has a routing id somewhere.
    pub(crate) fn check(self, total_vfs: u16) -> Result<(), ConfigError> {
        let Some(last) = total_vfs.checked_sub(1) else {
            return Ok(());
        };
        let apart = self.first_vf_offset != 0 && (self.vf_stride != 0 || last == 0);
        if apart && self.distance(last).is_some() {
            return Ok(());
        }
        Err(ConfigError::VfRouting {
            first_vf_offset: self.first_vf_offset,
            vf_stride: self.vf_stride,
            total_vfs,
        })
    }
}
