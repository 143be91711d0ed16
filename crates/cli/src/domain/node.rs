//! A domain in the form that this command's JSON has everywhere: ids as hexadecimal text, addresses as `lspci` writes them.

use hdv::DeviceState;
use hdv::domain::control::DomainTree;
use hdv::domain::{InterruptMode, NodeKind, PortNode, SriovNode, TreeNode};
use serde::Serialize;

use super::find::Found;
use crate::decode::Hex;
use crate::process;
use crate::status::Device;

/// A domain.
#[derive(Debug, Serialize)]
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) pid: u32,
    /// The command name of its host.
    pub(super) process: Option<String>,
    /// The control socket of its host.
    pub(super) control: std::path::PathBuf,
    /// Its endpoint; `null` if that has just gone.
    pub(super) endpoint: Option<Device>,
    /// Each is followed by what is below it, one `depth` further in.
    pub(super) nodes: Vec<Node>,
}

/// A port, a function or a VF.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) depth: usize,
    /// How other commands take it, the domain in front; of a VF, only to be read.
    pub(super) place: String,
    pub(super) path: String,
    pub(super) name: Option<String>,
    pub(super) kind: NodeKind,
    pub(super) vendor: Hex<4>,
    pub(super) device: Hex<4>,
    pub(super) class: Hex<6>,
    /// `null` before the guest has numbered it.
    pub(super) address: Option<String>,
    pub(super) memory_enabled: bool,
    pub(super) bus_master: bool,
    pub(super) interrupts: InterruptMode,
    pub(super) state: Option<DeviceState>,
    pub(super) port: Option<PortNode>,
    pub(super) sriov: Option<SriovNode>,
}

impl Domain {
    pub(super) fn new(found: &Found, tree: DomainTree, endpoint: Option<Device>) -> Self {
        Self {
            name: tree.name,
            pid: found.pid,
            process: process::name(found.pid),
            control: found.control.clone(),
            endpoint,
            nodes: tree
                .nodes
                .into_iter()
                .map(|node| Node::new(&found.label, node))
                .collect(),
        }
    }

    /// The port at a place or right above it, if there is one.
    pub(super) fn port(&self, place: &str) -> Option<&PortNode> {
        let is_it = |node: &Node| node.name.as_deref() == Some(place) || node.path == place;
        let at = self.nodes.iter().position(is_it)?;
        let node = &self.nodes[at];
        let above = || {
            let before = self.nodes[..at].iter().rev();
            let mut above = before.filter(|above| above.depth < node.depth);
            above.next()?.port.as_ref()
        };
        node.port.as_ref().or_else(above)
    }
}

impl Node {
    fn new(domain: &str, node: TreeNode) -> Self {
        let place = node.name.as_deref().filter(|_| {
            // That of a VF is for people.
            node.kind != NodeKind::VirtualFunction
        });
        let place = format!("{domain}/{}", place.unwrap_or(&node.path));
        Self {
            place,
            address: node.address(),
            depth: node.depth,
            path: node.path,
            name: node.name,
            kind: node.kind,
            vendor: Hex(node.vendor_id.into()),
            device: Hex(node.device_id.into()),
            class: Hex(node.class_code.into()),
            memory_enabled: node.memory_enabled,
            bus_master: node.bus_master,
            interrupts: node.interrupts,
            state: node.state,
            port: node.port,
            sriov: node.sriov,
        }
    }
}
