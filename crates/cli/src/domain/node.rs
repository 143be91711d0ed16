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
            nodes: tree.nodes.into_iter().map(Node::from).collect(),
        }
    }
}

impl From<TreeNode> for Node {
    fn from(node: TreeNode) -> Self {
        Self {
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
