//! Finding functions and numbering buses, depth first.

use std::ops::RangeInclusive;

use super::access::Access;
use super::{ConfigBus, EnumerateError, FoundBridge, FoundFunction, FoundSriov};
use crate::identity::ClassCode;
use crate::routing_id::RoutingId;
use crate::spec::bridge;
use crate::spec::express::{DeviceCapabilities2, DeviceControl2};
use crate::spec::extended::extended_capability_id;
use crate::spec::port::SlotCapabilities;
use crate::spec::sriov::{self, SriovControl};
use crate::spec::{ari, express, header, port};
use crate::vf_routing::VfRouting;

/// Devices of a bus that is no link.
const DEVICES: u8 = 32;
/// Functions of a device without ARI.
const FUNCTIONS: u8 = 8;

/// A scan under way.
pub(super) struct Scan<'a, B: ?Sized> {
    bus: &'a mut B,
    functions: Vec<FoundFunction>,
    /// The highest bus number in use.
    last_bus: u8,
    /// The highest bus number there is.
    limit: u8,
    /// Bus numbers for each slot beyond those in use.
    spare: u8,
}

impl<'a, B: ConfigBus + ?Sized> Scan<'a, B> {
    /// Numbers `buses`, of which the first one is the root bus, and finds everything there.
    pub(super) fn run(
        bus: &'a mut B,
        buses: &RangeInclusive<u8>,
        spare: u8,
    ) -> Result<Vec<FoundFunction>, EnumerateError> {
        let mut scan = Self {
            bus,
            functions: Vec::new(),
            last_bus: *buses.start(),
            limit: *buses.end(),
            spare,
        };
        scan.bus(*buses.start(), None)?;
        Ok(scan.functions)
    }

    /// Finds what is on a bus and below. As deep as there are bus numbers.
    fn bus(&mut self, number: u8, above: Option<usize>) -> Result<(), EnumerateError> {
        let start = self.functions.len();
        let ari = self.find_functions(number, above);
        let found = start..self.functions.len();
        for at in found.clone() {
            self.find_vfs(at, ari)?;
        }
        for at in found {
            if self.functions[at].bridge.is_some() {
                self.number_below(at)?;
            }
        }
        Ok(())
    }

    fn access(&mut self, id: RoutingId) -> Access<'_, B> {
        Access::new(&mut *self.bus, id)
    }

    /// Finds the functions of a bus; whether there is one device with ARI.
    fn find_functions(&mut self, number: u8, above: Option<usize>) -> bool {
        let link = above.is_some_and(|above| self.has_link_below(self.functions[above].id));
        let devices = if link { 1 } else { DEVICES };
        if link && self.find_ari_functions(number, above) {
            return true;
        }
        for device in 0..devices {
            for function in 0..FUNCTIONS {
                let id = RoutingId::with_ari(number, device * FUNCTIONS + function);
                let found = self.find_function(id, above);
                if function == 0 && !(found && self.is_multi_function(id)) {
                    break;
                }
            }
        }
        false
    }

    /// If device 0 has ARI and the port above can forward it: finds its functions by their list, which
    /// goes up.
    fn find_ari_functions(&mut self, number: u8, above: Option<usize>) -> bool {
        let Some(port) = above.map(|above| self.functions[above].id) else {
            return false;
        };
        let mut function = 0;
        let capable = self.set_ari_forwarding(port, false)
            && self.present(RoutingId::with_ari(number, 0))
            && self
                .ari_capability(RoutingId::with_ari(number, 0))
                .is_some()
            && self.set_ari_forwarding(port, true);
        if !capable {
            return false;
        }
        loop {
            let id = RoutingId::with_ari(number, function);
            if !self.find_function(id, above) {
                return true;
            }
            let next = self.ari_capability(id).map_or(0, |base| {
                let [_, next] = self
                    .access(id)
                    .read_u16(base + ari::CAPABILITIES)
                    .to_le_bytes();
                next
            });
            if next <= function {
                return true;
            }
            function = next;
        }
    }

    fn ari_capability(&mut self, id: RoutingId) -> Option<u16> {
        self.access(id)
            .reader()
            .extended_capability(extended_capability_id::ARI, ari::LENGTH)
    }

    /// Whether the port can forward ARI; sets whether it does.
    fn set_ari_forwarding(&mut self, port: RoutingId, enable: bool) -> bool {
        let mut access = self.access(port);
        let Some(base) = access.reader().express() else {
            return false;
        };
        let supported = access.read_u32(base + express::DEVICE_CAPABILITIES_2);
        if supported & DeviceCapabilities2::ARI_FORWARDING.bits() == 0 {
            return false;
        }
        let control = access.read_u16(base + express::DEVICE_CONTROL_2);
        let ari = DeviceControl2::ARI_FORWARDING.bits();
        let control = if enable {
            control | ari
        } else {
            control & !ari
        };
        access.write_u16(base + express::DEVICE_CONTROL_2, control);
        true
    }

    fn has_link_below(&mut self, port: RoutingId) -> bool {
        let mut access = self.access(port);
        let Some(base) = access.reader().express() else {
            return false;
        };
        let kind = access.read_u16(base + express::CAPABILITIES) & port::TYPE_MASK;
        [port::TYPE_ROOT_PORT, port::TYPE_DOWNSTREAM].contains(&kind)
    }

    fn has_hot_plug_slot(&mut self, port: RoutingId) -> bool {
        let mut access = self.access(port);
        let Some(base) = access.reader().express() else {
            return false;
        };
        let slot = access.read_u16(base + express::CAPABILITIES) & port::SLOT_IMPLEMENTED != 0;
        let capable = SlotCapabilities::HOT_PLUG_CAPABLE.bits();
        slot && access.read_u32(base + port::SLOT_CAPABILITIES) & capable != 0
    }

    fn present(&mut self, id: RoutingId) -> bool {
        self.access(id).read_u16(header::VENDOR_ID) != header::VENDOR_ID_NONE
    }

    fn is_multi_function(&mut self, id: RoutingId) -> bool {
        self.access(id).read_u8(header::HEADER_TYPE) & header::MULTI_FUNCTION != 0
    }

    /// Takes down who is there; whether anybody is. A port forwards nothing from now on.
    fn find_function(&mut self, id: RoutingId, above: Option<usize>) -> bool {
        if !self.present(id) {
            return false;
        }
        let mut access = self.access(id);
        let header_type = access.read_u8(header::HEADER_TYPE) & !header::MULTI_FUNCTION;
        let class = access.read_u32(header::REVISION_ID) >> 8;
        let (vendor_id, device_id) = (
            access.read_u16(header::VENDOR_ID),
            access.read_u16(header::DEVICE_ID),
        );
        let bridge = (header_type == bridge::HEADER_TYPE).then(|| {
            access.write_u16(bridge::PRIMARY_BUS, 0);
            access.write_u16(bridge::SUBORDINATE_BUS, 0);
            let prefetchable = access.read_u16(bridge::PREFETCHABLE_BASE);
            FoundBridge {
                secondary: 0,
                subordinate: 0,
                hot_plug: false,
                wide: prefetchable & bridge::PREFETCHABLE_64 != 0,
                memory: None,
                prefetchable: None,
            }
        });
        self.functions.push(FoundFunction {
            id,
            above,
            vendor_id,
            device_id,
            class: ClassCode::from_u24(class),
            bars: Vec::new(),
            sriov: None,
            bridge,
        });
        true
    }

    /// Looks for VFs, which stay disabled, and keeps the buses that they are on.
    fn find_vfs(&mut self, at: usize, ari: bool) -> Result<(), EnumerateError> {
        let pf = self.functions[at].id;
        let mut access = self.access(pf);
        let found = access
            .reader()
            .extended_capability(extended_capability_id::SRIOV, sriov::LENGTH);
        let Some(offset) = found else { return Ok(()) };
        let total_vfs = access.read_u16(offset + sriov::TOTAL_VFS);
        access.write_u16(offset + sriov::CONTROL, 0);
        if ari {
            let bit = SriovControl::ARI_CAPABLE_HIERARCHY.bits();
            access.write_u16(offset + sriov::CONTROL, bit);
        }
        access.write_u32(
            offset + sriov::SYSTEM_PAGE_SIZE,
            sriov::SYSTEM_PAGE_SIZE_RESET,
        );
        // They may depend on the number of VFs.
        access.write_u16(offset + sriov::NUM_VFS, total_vfs);
        let routing = VfRouting {
            first_vf_offset: access.read_u16(offset + sriov::FIRST_VF_OFFSET),
            vf_stride: access.read_u16(offset + sriov::VF_STRIDE),
        };
        access.write_u16(offset + sriov::NUM_VFS, 0);
        self.functions[at].sriov = Some(FoundSriov {
            offset,
            total_vfs,
            routing,
            bars: Vec::new(),
        });
        let Some(last_vf) = total_vfs.checked_sub(1) else {
            return Ok(());
        };
        let last = routing
            .routing_id(pf, last_vf)
            .ok_or(EnumerateError::VfRouting { pf })?;
        self.take_buses(pf, last.bus().into())
    }

    /// Numbers the bus below a port and what is there.
    fn number_below(&mut self, at: usize) -> Result<(), EnumerateError> {
        let id = self.functions[at].id;
        let secondary = u16::from(self.last_bus) + 1;
        self.take_buses(id, secondary)?;
        let secondary = self.last_bus;
        let limit = self.limit;
        let mut access = self.access(id);
        access.write_u16(
            bridge::PRIMARY_BUS,
            u16::from_le_bytes([id.bus(), secondary]),
        );
        access.write_u16(bridge::SUBORDINATE_BUS, limit.into());
        let hot_plug = self.has_hot_plug_slot(id);
        self.bus(secondary, Some(at))?;
        if hot_plug {
            let spare = u16::from(self.last_bus) + u16::from(self.spare);
            self.take_buses(id, spare)?;
        }
        let subordinate = self.last_bus;
        self.access(id)
            .write_u16(bridge::SUBORDINATE_BUS, subordinate.into());
        if let Some(bridge) = &mut self.functions[at].bridge {
            bridge.secondary = secondary;
            bridge.subordinate = subordinate;
            bridge.hot_plug = hot_plug;
        }
        Ok(())
    }

    /// Buses up to `needed` are in use.
    fn take_buses(&mut self, id: RoutingId, needed: u16) -> Result<(), EnumerateError> {
        let last = self.limit;
        match u8::try_from(needed) {
            Ok(bus) if bus <= last => {
                self.last_bus = self.last_bus.max(bus);
                Ok(())
            }
            _ => Err(EnumerateError::Buses { id, needed, last }),
        }
    }
}
