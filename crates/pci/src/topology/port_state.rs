//! What of a port's config space matters to routing.

use std::ops::RangeInclusive;

use crate::config_space::ConfigSpace;
use crate::port_view::PortKind;
use crate::spec::header::Command;
use crate::spec::power::PowerState;

/// A port's part in routing, as software has set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortState {
    pub(super) secondary: u8,
    pub(super) subordinate: u8,
    pub(super) ari_forwarding: bool,
    pub(super) bus_master: bool,
    /// Requests pass down and up: what is below is alive, and the port is in D0.
    pub(super) open: bool,
    /// The link below is up and nothing below is in reset.
    pub(super) alive: bool,
    memory: Option<RangeInclusive<u64>>,
    prefetchable: Option<RangeInclusive<u64>>,
}

impl PortState {
    /// What a port's config space says now.
    pub(super) fn of(config: &ConfigSpace) -> Self {
        let command = config.command();
        let bridge = config.bridge();
        let window = |window: Option<RangeInclusive<u64>>| {
            window.filter(|_| command.contains(Command::MEMORY_SPACE))
        };
        let port = config.port();
        let link = port.is_some_and(|port| port.link_active && !port.link_disabled);
        let reset = bridge
            .as_ref()
            .is_none_or(|bridge| bridge.secondary_bus_reset);
        let alive = link && !reset;
        let (secondary, subordinate) = bridge
            .as_ref()
            .map_or((0, 0), |bridge| (bridge.secondary, bridge.subordinate));
        let (memory, prefetchable) =
            bridge.map_or((None, None), |bridge| (bridge.memory, bridge.prefetchable));
        Self {
            secondary,
            subordinate,
            ari_forwarding: port.is_some_and(|port| port.ari_forwarding),
            bus_master: command.contains(Command::BUS_MASTER),
            open: alive && config.power_state() == PowerState::D0,
            alive,
            memory: window(memory),
            prefetchable: window(prefetchable),
        }
    }

    /// The addresses that are passed down.
    pub(super) fn windows(&self) -> [Option<&RangeInclusive<u64>>; 2] {
        [self.memory.as_ref(), self.prefetchable.as_ref()]
    }
}

/// What kind of port a config space is that of; `None` if of none.
pub(super) fn port_kind(config: &ConfigSpace) -> Option<PortKind> {
    config.bridge()?;
    config.port().map(|port| port.kind)
}
