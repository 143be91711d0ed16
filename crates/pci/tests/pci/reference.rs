//! A slow decoder to compare with: it asks every bus on the way, one request and one byte at a time, and
//! reads the registers of ports itself.

use hdv_pci::topology::{ConfigTarget, FunctionId, Member, Parent, PortId};
use hdv_pci::{BarIndex, BarKind, Command, ConfigSpace, PowerState, RoutingId};

use crate::common::{read_u8, read_u16, read_u32};
use crate::machine::Machine;

/// What one byte of memory is: function, VF, BAR and offset.
pub(crate) type Byte = (FunctionId, Option<u16>, BarIndex, u64);

impl Machine {
    /// Offset of the port's PCI Express capability, as ports of this machine have it.
    fn express(config: &ConfigSpace) -> u16 {
        assert_eq!(read_u8(config, 0x40), 0x10);
        0x40
    }

    fn has_link(config: &ConfigSpace) -> bool {
        let kind = read_u16(config, Self::express(config) + 2) >> 4 & 0xf;
        assert!([4, 5, 6].contains(&kind));
        kind != 5
    }

    /// Requests pass through the port.
    fn passes(config: &ConfigSpace) -> bool {
        let active = read_u16(config, Self::express(config) + 0x12) & 1 << 13 != 0;
        let reset = read_u16(config, 0x3e) & 1 << 6 != 0;
        (active || !Self::has_link(config)) && !reset
    }

    fn forwards_ari(config: &ConfigSpace) -> bool {
        read_u16(config, Self::express(config) + 0x28) & 1 << 5 != 0
    }

    fn bus_of(&self, parent: Parent) -> u8 {
        match parent {
            Parent::Root => self.topology.root_bus(),
            Parent::Port(port) => read_u8(self.config(port), 0x19),
        }
    }

    pub(crate) fn config(&self, port: PortId) -> &ConfigSpace {
        self.topology.port(port).unwrap()
    }

    pub(crate) fn slow_config_target(&self, id: RoutingId) -> Option<ConfigTarget> {
        self.config_from(Parent::Root, id)
    }

    /// A request that came to the bus.
    fn config_from(&self, parent: Parent, id: RoutingId) -> Option<ConfigTarget> {
        if self.bus_of(parent) == id.bus() {
            return self.type_0(parent, id);
        }
        for (_, member) in self.members(parent) {
            let Member::Port(port) = member else { continue };
            let config = self.config(port);
            if (read_u8(config, 0x19)..=read_u8(config, 0x1a)).contains(&id.bus()) {
                let passes = Self::passes(config);
                return passes
                    .then(|| self.config_from(Parent::Port(port), id))
                    .flatten();
            }
        }
        self.vf(parent, id)
    }

    fn type_0(&self, parent: Parent, id: RoutingId) -> Option<ConfigTarget> {
        if let Parent::Port(port) = parent {
            let config = self.config(port);
            if Self::has_link(config) && !Self::forwards_ari(config) && id.ari_function() > 7 {
                return None;
            }
        }
        let members = self.members(parent);
        let there = members.iter().find(|(at, _)| *at == id.ari_function());
        match there {
            Some((_, Member::Port(port))) => Some(ConfigTarget::Port(*port)),
            Some((_, Member::Function(function))) => Some(ConfigTarget::Function(*function)),
            None => self.vf(parent, id),
        }
    }

    fn vf(&self, parent: Parent, id: RoutingId) -> Option<ConfigTarget> {
        for (at, member) in self.members(parent) {
            let Member::Function(function) = member else {
                continue;
            };
            let Some(sriov) = self.functions[&function].sriov() else {
                continue;
            };
            let pf = RoutingId::with_ari(self.bus_of(parent), at);
            for vf in 0..sriov.active_vfs() {
                if sriov.routing.routing_id(pf, vf) == Some(id) {
                    return Some(ConfigTarget::VirtualFunction(function, vf));
                }
            }
        }
        None
    }

    pub(crate) fn slow_byte(&self, address: u64) -> Option<Byte> {
        self.byte_from(Parent::Root, address)
    }

    fn byte_from(&self, parent: Parent, address: u64) -> Option<Byte> {
        for (_, member) in self.members(parent) {
            match member {
                Member::Function(function) => {
                    let found = self.function_byte(function, address);
                    if found.is_some() {
                        return found;
                    }
                }
                Member::Port(port) => {
                    let config = self.config(port);
                    if Self::in_windows(config, address) {
                        let passes = Self::passes(config);
                        return passes
                            .then(|| self.byte_from(Parent::Port(port), address))
                            .flatten();
                    }
                }
            }
        }
        None
    }

    fn in_windows(config: &ConfigSpace, address: u64) -> bool {
        let part = |register| u64::from(read_u16(config, register) & 0xfff0) << 16;
        let upper = |register| u64::from(read_u32(config, register)) << 32;
        let memory = part(0x20)..=part(0x22) | 0xf_ffff;
        let prefetchable = part(0x24) | upper(0x28)..=part(0x26) | upper(0x2c) | 0xf_ffff;
        read_u16(config, 0x04) & 2 != 0
            && (memory.contains(&address) || prefetchable.contains(&address))
    }

    fn function_byte(&self, id: FunctionId, address: u64) -> Option<Byte> {
        let config = &self.functions[&id];
        if config.power_state() != PowerState::D0 {
            return None;
        }
        for index in BarIndex::ALL {
            let Some(bar) = config.bar(index) else {
                continue;
            };
            let offset = address.wrapping_sub(config.bar_address(index).unwrap());
            if config.command().contains(Command::MEMORY_SPACE) && offset < bar.size {
                return Some((id, None, index, offset));
            }
        }
        let sriov = config.sriov()?;
        for index in BarIndex::ALL {
            let Some(bar) = sriov.vf_bars[index.get()] else {
                continue;
            };
            let limit = match bar.bar.kind {
                BarKind::Memory32 => 1 << 32,
                BarKind::Memory64 => 1_u128 << 64,
            };
            for vf in 0..sriov.active_vfs() {
                let size = u128::from(bar.bar.size);
                let first = u128::from(bar.address) + u128::from(vf) * size;
                let inside = (first..first + size).contains(&address.into());
                if sriov.memory_enabled() && inside && first + size <= limit {
                    let offset = u64::try_from(u128::from(address) - first).unwrap();
                    return Some((id, Some(vf), index, offset));
                }
            }
        }
        None
    }
}
