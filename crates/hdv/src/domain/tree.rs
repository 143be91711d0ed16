//! What is in a domain, as data: for who draws it, and for who looks for something in it.

use std::sync::Arc;

use hdv_pci::topology::{Found, FunctionId, Member, Parent, PortId};
use hdv_pci::{Command, ConfigSpace, Identity, Indicator, PortKind, RoutingId, SlotView};
use serde::{Deserialize, Serialize};

use super::hierarchy::{Hierarchy, State};
use super::inner::Inner;
use super::places;
use crate::slot::DeviceState;

/// A port, a function or a VF of a domain as it stood when it was looked at.
///
/// They are in a flat list, as `lspci -t` draws them: what is below a port follows it, and a PF's VFs the PF, one
/// [`depth`](Self::depth) further in. Hierarchies may be deeper than what reads trees from JSON goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TreeNode {
    /// How many ports, and PF, are above it.
    pub depth: usize,
    /// Where it is, as [`Domain::find`](super::Domain::find) takes it; of a VF, which that does not find, its PF's and `vf` with
    /// its number.
    pub path: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it is.
    pub kind: NodeKind,
    /// PCI vendor id; that of a VF's PF in a VF.
    pub vendor_id: u16,
    /// PCI device id.
    pub device_id: u16,
    /// Class code, 24 bits: base class, subclass, interface.
    pub class_code: u32,
    /// Where the guest has numbered it: bus in bits 15:8, device in 7:3, function in 2:0. `None` before.
    pub routing_id: Option<u16>,
    /// It answers accesses to its memory: Memory Space Enable is set, and it has power. VFs have it of their PF.
    pub memory_enabled: bool,
    /// It may send requests, as far as its own Bus Master Enable and power say.
    pub bus_master: bool,
    /// Which kind of interrupt the guest has enabled.
    pub interrupts: InterruptMode,
    /// Where its device is in its life; `None` for ports.
    pub state: Option<DeviceState>,
    /// What a port has besides.
    pub port: Option<PortNode>,
    /// What a PF has besides.
    pub sriov: Option<SriovNode>,
}

/// What is at a place of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NodeKind {
    /// A root port.
    RootPort,
    /// The upstream port of a switch.
    UpstreamPort,
    /// A downstream port of a switch.
    DownstreamPort,
    /// A function without VFs.
    Function,
    /// A PF.
    PhysicalFunction,
    /// A VF.
    VirtualFunction,
}

/// Which kind of interrupt is enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterruptMode {
    /// None.
    #[default]
    None,
    /// MSI.
    Msi,
    /// MSI-X.
    #[serde(rename = "msi-x")]
    MsiX,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PortNode {
    /// The bus right below, 0 before the guest has numbered it.
    pub secondary: u8,
    /// The highest bus that is reached through it.
    pub subordinate: u8,
    /// The link below is up; always so in an upstream port.
    pub link_up: bool,
    /// The slot below, if there is one.
    pub slot: Option<SlotNode>,
}

/// A port's slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlotNode {
    /// The physical slot number, 0 to 8191.
    pub number: u16,
    /// There is a device in it.
    pub occupied: bool,
    /// It has power.
    pub powered: bool,
    /// The attention indicator; off if there is none.
    pub attention_indicator: IndicatorState,
    /// The power indicator; off if there is none.
    pub power_indicator: IndicatorState,
    /// The guest wants interrupts for the slot's events.
    pub hot_plug_interrupt: bool,
}

/// An indicator of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndicatorState {
    /// Off.
    #[default]
    Off,
    /// Blinking.
    Blinking,
    /// On.
    On,
}

/// A PF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SriovNode {
    /// Most VFs there can be.
    pub total_vfs: u16,
    /// How many there are.
    pub num_vfs: u16,
}

impl InterruptMode {
    /// By discriminant.
    pub(super) const ALL: [Self; 3] = [Self::None, Self::Msi, Self::MsiX];
}

impl From<Indicator> for IndicatorState {
    fn from(indicator: Indicator) -> Self {
        match indicator {
            Indicator::Off => Self::Off,
            Indicator::Blinking => Self::Blinking,
            Indicator::On => Self::On,
        }
    }
}

impl From<PortKind> for NodeKind {
    fn from(kind: PortKind) -> Self {
        match kind {
            PortKind::Root => Self::RootPort,
            PortKind::Upstream => Self::UpstreamPort,
            PortKind::Downstream => Self::DownstreamPort,
        }
    }
}

impl From<SlotView> for SlotNode {
    fn from(slot: SlotView) -> Self {
        use hdv_pci::spec::port::SlotControl;
        Self {
            number: slot.number,
            occupied: slot.present,
            powered: slot.powered,
            attention_indicator: slot.attention_indicator.into(),
            power_indicator: slot.power_indicator.into(),
            hot_plug_interrupt: slot
                .control
                .contains(SlotControl::HOT_PLUG_INTERRUPT_ENABLE),
        }
    }
}

impl TreeNode {
    /// Where the guest has numbered it, as `lspci` writes it: `bus:device.function`, in hexadecimal. `None` before.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        Some(RoutingId::from(self.routing_id?).to_string())
    }

    fn new(depth: usize, path: String, kind: NodeKind, identity: Option<Identity>) -> Self {
        Self {
            depth,
            path,
            name: None,
            kind,
            vendor_id: identity.map_or(u16::MAX, |identity| identity.vendor_id),
            device_id: identity.map_or(u16::MAX, |identity| identity.device_id),
            class_code: identity.map_or(0, |identity| identity.class.to_u24()),
            routing_id: None,
            memory_enabled: false,
            bus_master: false,
            interrupts: InterruptMode::None,
            state: None,
            port: None,
            sriov: None,
        }
    }
}

impl Hierarchy {
    pub(super) fn tree(&self) -> Vec<TreeNode> {
        let state = self.lock();
        let mut nodes = Vec::new();
        // Of the ports above.
        let mut way: Vec<String> = Vec::new();
        for found in state.topology.walk() {
            way.truncate(found.depth);
            let path = places::below(way.last().map(String::as_str), found.id);
            match found.member {
                Member::Port(port) => {
                    nodes.extend(state.port_node(&found, port, path.clone()));
                    way.push(path);
                }
                Member::Function(function) => {
                    state.function_nodes(&found, function, path, &mut nodes);
                }
            }
        }
        nodes
    }
}

impl State {
    /// The routing id, once the guest has numbered the bus, as long as links above are up.
    fn numbered(&self, parent: Parent, id: RoutingId) -> Option<u16> {
        let numbered = parent == Parent::Root || self.topology.bus_number(parent)? != 0;
        (numbered && self.topology.links_up(parent)).then_some(id.get())
    }

    fn port_node(&self, found: &Found, id: PortId, path: String) -> Option<TreeNode> {
        let config: &ConfigSpace = self.topology.port(id)?;
        let (port, bridge) = (config.port()?, config.bridge()?);
        let command = config.command();
        let enabled = config.msi().is_some_and(|msi| msi.enabled);
        let interrupts = if enabled {
            InterruptMode::Msi
        } else {
            InterruptMode::None
        };
        let identity = Some(config.identity());
        Some(TreeNode {
            name: self.names.name(found.member).map(ToOwned::to_owned),
            routing_id: self.numbered(found.parent, found.id),
            memory_enabled: command.contains(Command::MEMORY_SPACE),
            bus_master: command.contains(Command::BUS_MASTER),
            interrupts,
            port: Some(PortNode {
                secondary: bridge.secondary,
                subordinate: bridge.subordinate,
                link_up: port.link_active,
                slot: port.slot.map(SlotNode::from),
            }),
            ..TreeNode::new(found.depth, path, port.kind.into(), identity)
        })
    }

    /// A function, and after it its VFs.
    fn function_nodes(
        &self,
        found: &Found,
        id: FunctionId,
        path: String,
        nodes: &mut Vec<TreeNode>,
    ) {
        let Some((inner, decode)) = self.functions.get(&id).zip(self.topology.decode(id)) else {
            return;
        };
        let sriov = inner.total_vfs().map(|total_vfs| SriovNode {
            total_vfs,
            num_vfs: decode.active_vfs(),
        });
        let kind = match sriov {
            Some(_) => NodeKind::PhysicalFunction,
            None => NodeKind::Function,
        };
        let vfs = self.virtual_functions.range((id, 0)..=(id, u16::MAX));
        let vfs: Vec<TreeNode> = vfs
            .map(|((_, vf), (_, inner))| {
                let node = of_function(
                    found.depth + 1,
                    places::of_vf(&path, *vf),
                    NodeKind::VirtualFunction,
                    inner,
                );
                let routing_id = self.topology.vf_routing_id(id, *vf);
                TreeNode {
                    name: Some(inner.slot().name().to_owned()),
                    routing_id: routing_id.and_then(|vf| self.numbered(found.parent, vf)),
                    memory_enabled: decode.vf_memory_enabled(),
                    bus_master: inner.bus_master(),
                    ..node
                }
            })
            .collect();
        nodes.push(TreeNode {
            name: self.names.name(found.member).map(ToOwned::to_owned),
            routing_id: self.numbered(found.parent, found.id),
            memory_enabled: decode.memory_enabled(),
            bus_master: decode.bus_master(),
            sriov,
            ..of_function(found.depth, path, kind, inner)
        });
        nodes.extend(vfs);
    }
}

fn of_function(depth: usize, path: String, kind: NodeKind, inner: &Arc<Inner>) -> TreeNode {
    TreeNode {
        interrupts: inner.interrupts(),
        state: Some(inner.slot().state()),
        ..TreeNode::new(depth, path, kind, inner.identity())
    }
}
