//! A domain, and what the test knows of what is where in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hdv::domain::{Domain, Position};
use hdv::pci::capability::Slot;
use hdv::pci::topology::PortId;
use hdv::pci_function;
use proptest::sample::Index;

use crate::shapes::{Bars, Below, OnRoot};
use crate::stamp::{Stamp, Written};

/// What is where, as the test put it there: by device and function number on its bus.
#[derive(Debug)]
pub(crate) enum Node {
    Function(u16, Bars),
    Port {
        /// `None` if it is a switch's upstream port.
        port: Option<PortId>,
        slot: bool,
        below: BTreeMap<u8, Node>,
    },
}

/// A domain, and what the test knows of it.
pub(crate) struct Machine {
    domain: Domain,
    pub(crate) on_root: BTreeMap<u8, Node>,
    pub(crate) written: Arc<Mutex<Vec<Written>>>,
    devices: u16,
}

impl Machine {
    pub(crate) fn new(domain: Domain) -> Self {
        Self {
            domain,
            on_root: BTreeMap::new(),
            written: Arc::default(),
            devices: 0,
        }
    }

    fn attach(&mut self, position: Position, bars: &Bars) -> Node {
        self.devices += 1;
        let device = Stamp {
            number: self.devices,
            bars: bars.clone(),
            written: Arc::clone(&self.written),
        };
        let content = pci_function(Box::new(device)).expect("a function");
        let name = format!("device {}", self.devices);
        let attached = self.domain.attach(position, &name, content, &[]);
        attached.expect("a free place");
        Node::Function(self.devices, bars.clone())
    }

    fn device(&mut self, at: Position, place: u8, functions: &[(u8, Bars)]) -> BTreeMap<u8, Node> {
        let attach = |(function, bars): &(u8, Bars)| {
            let node = self.attach(at.function(*function), bars);
            (place | function, node)
        };
        functions.iter().map(attach).collect()
    }

    fn port(&mut self, port: PortId, slot: bool, below: &Below) -> Node {
        let below = match below {
            Below::Nothing => BTreeMap::new(),
            Below::Device(functions) => self.device(Position::below(port), 0, functions),
            Below::Switch(ports) => {
                let slots: Vec<_> = ports.iter().map(|(has, _)| slot_of(*has)).collect();
                let ids = self.domain.add_switch(port, &slots).expect("a free place");
                let downstream = (0_u8..).step_by(8).zip(ids).zip(ports);
                let below = downstream
                    .map(|((place, id), (slot, below))| (place, self.port(id, *slot, below)))
                    .collect();
                let upstream = Node::Port {
                    port: None,
                    slot: false,
                    below,
                };
                BTreeMap::from([(0, upstream)])
            }
        };
        Node::Port {
            port: Some(port),
            slot,
            below,
        }
    }

    /// How many ports and functions the domain says there are.
    pub(crate) fn walked(&self) -> usize {
        self.domain.walk().len()
    }

    pub(crate) fn build(&mut self, shapes: &[OnRoot]) {
        for (device, shape) in (0_u8..).zip(shapes) {
            match shape {
                OnRoot::Device(functions) => {
                    let at = Position::on_root_bus(device);
                    let mut functions = self.device(at, device << 3, functions);
                    self.on_root.append(&mut functions);
                }
                OnRoot::Port(slot, below) => {
                    let port = self.domain.add_root_port(device, 0, slot_of(*slot));
                    let node = self.port(port.expect("a free place"), *slot, below);
                    self.on_root.insert(device << 3, node);
                }
            }
        }
    }

    /// Puts a device into every empty slot, and takes one of the others out.
    pub(crate) fn plug_and_pull(&mut self, functions: &[(u8, Bars)], pulled: Index) {
        let mut on_root = std::mem::take(&mut self.on_root);
        let mut full = Vec::new();
        each_slot(&mut on_root, &mut |port, below| {
            if below.is_empty() {
                *below = self.device(Position::below(port), 0, functions);
            } else {
                full.push(port);
            }
        });
        if !full.is_empty() {
            let pulled = *pulled.get(&full);
            self.domain.pull(pulled).expect("it is there");
            each_slot(&mut on_root, &mut |port, below| {
                if port == pulled {
                    below.clear();
                }
            });
        }
        self.on_root = on_root;
    }
}

fn slot_of(has: bool) -> Option<Slot> {
    has.then(|| Slot::hot_plug(1))
}

fn each_slot(
    nodes: &mut BTreeMap<u8, Node>,
    visit: &mut impl FnMut(PortId, &mut BTreeMap<u8, Node>),
) {
    for node in nodes.values_mut() {
        if let Node::Port { port, slot, below } = node {
            each_slot(below, visit);
            if let (Some(port), true) = (*port, *slot) {
                visit(port, below);
            }
        }
    }
}
