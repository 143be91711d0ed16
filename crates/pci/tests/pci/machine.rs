//! A machine to enumerate: a topology, the config spaces of the functions in it, and an ECAM window. It
//! keeps a tree of its own of what is where, for tests to compare with.

use std::collections::BTreeMap;

use hdv_pci::enumerate::ConfigBus;
use hdv_pci::topology::{
    ConfigTarget, Ecam, FunctionDecode, FunctionId, Member, Parent, PortId, Topology, TopologyError,
};
use hdv_pci::{ClassCode, ConfigSpace, Effects, Identity, PciExpress, PortKind, RoutingId, Slot};

pub(crate) struct Machine {
    pub(crate) topology: Topology,
    pub(crate) functions: BTreeMap<FunctionId, ConfigSpace>,
    /// Bits 7:0 of the routing id, in each bus.
    pub(crate) tree: BTreeMap<Parent, BTreeMap<u8, Member>>,
    pub(crate) ecam: Ecam,
    /// Gives every function and port a device id of its own.
    device_id: u16,
}

impl Machine {
    pub(crate) fn new(root_bus: u8) -> Self {
        Self {
            topology: Topology::new(root_bus),
            functions: BTreeMap::new(),
            tree: BTreeMap::new(),
            ecam: Ecam::new(root_bus, 256 - u16::from(root_bus)).unwrap(),
            device_id: 0,
        }
    }

    pub(crate) fn identity(&mut self) -> Identity {
        self.device_id += 1;
        Identity {
            vendor_id: 0x4f48,
            device_id: self.device_id,
            revision_id: 0,
            class: ClassCode::from_u24(0x11_8000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        }
    }

    pub(crate) fn port_config(&mut self, kind: PortKind, slot: bool) -> ConfigSpace {
        let mut express = match kind {
            PortKind::Root => PciExpress::root_port(1),
            PortKind::Upstream => PciExpress::upstream_port(1),
            PortKind::Downstream => PciExpress::downstream_port(1),
        };
        if slot {
            express = express.slot(Slot::hot_plug(1));
        }
        ConfigSpace::bridge_builder(self.identity())
            .capability(express)
            .build()
            .unwrap()
    }

    pub(crate) fn port(&mut self, parent: Parent, device: u8, kind: PortKind) -> PortId {
        let config = self.port_config(kind, false);
        self.add_port(parent, device, 0, config).unwrap()
    }

    pub(crate) fn add_port(
        &mut self,
        parent: Parent,
        device: u8,
        function: u8,
        config: ConfigSpace,
    ) -> Result<PortId, TopologyError> {
        let id = self.topology.add_port(parent, device, function, config)?;
        self.keep(parent, device * 8 + function, Member::Port(id));
        Ok(id)
    }

    /// Below a link `device` is 0 and `function` up to 255.
    pub(crate) fn attach(
        &mut self,
        parent: Parent,
        device: u8,
        function: u8,
        config: ConfigSpace,
    ) -> Result<FunctionId, TopologyError> {
        let decode = FunctionDecode::of(&config);
        let id = self.topology.attach(parent, device, function, decode)?;
        self.functions.insert(id, config);
        self.keep(parent, device * 8 + function, Member::Function(id));
        for (id, config) in &mut self.functions {
            config.set_multi_function(self.topology.is_multi_function(*id));
        }
        Ok(id)
    }

    fn keep(&mut self, parent: Parent, place: u8, member: Member) {
        self.tree.entry(parent).or_default().insert(place, member);
    }

    /// A device with a slot above it is put in.
    pub(crate) fn plug(&mut self, port: PortId) -> Effects {
        let plug = |config: &mut ConfigSpace| config.set_presence(true);
        self.topology.change_port(port, plug).unwrap()
    }

    pub(crate) fn write_function(&mut self, id: FunctionId, offset: u16, data: &[u8]) {
        let config = self.functions.get_mut(&id).unwrap();
        let _ = config.write(offset, data);
        let decode = FunctionDecode::of(config);
        self.topology.update(id, decode).unwrap();
    }

    /// What is on a bus, in order.
    pub(crate) fn members(&self, parent: Parent) -> Vec<(u8, Member)> {
        let bus = self.tree.get(&parent);
        let members = bus.into_iter().flatten();
        members.map(|(at, who)| (*at, *who)).collect()
    }

    /// Takes a function away, unless its device has others that need it.
    pub(crate) fn detach(&mut self, id: FunctionId) {
        if self.topology.detach(id).is_ok() {
            self.functions.remove(&id);
            for bus in self.tree.values_mut() {
                bus.retain(|_, member| *member != Member::Function(id));
            }
        }
    }

    fn target(&self, id: RoutingId, register: u16) -> Option<ConfigTarget> {
        let offset = self.ecam.offset(id, register)?;
        let (decoded, same) = self.ecam.decode(offset)?;
        assert_eq!((decoded, same), (id, register));
        self.topology.config_target(decoded)
    }
}

impl ConfigBus for Machine {
    fn read(&mut self, id: RoutingId, offset: u16, data: &mut [u8]) {
        match self.target(id, offset) {
            Some(ConfigTarget::Port(port)) => self.topology.read_port(port, offset, data),
            Some(ConfigTarget::Function(id)) => self.functions[&id].read(offset, data),
            Some(ConfigTarget::VirtualFunction(..)) | None => data.fill(0xff),
        }
    }

    fn write(&mut self, id: RoutingId, offset: u16, data: &[u8]) {
        match self.target(id, offset) {
            Some(ConfigTarget::Port(port)) => {
                let _ = self.topology.write_port(port, offset, data).unwrap();
            }
            Some(ConfigTarget::Function(id)) => self.write_function(id, offset, data),
            Some(ConfigTarget::VirtualFunction(..)) | None => {}
        }
    }
}
