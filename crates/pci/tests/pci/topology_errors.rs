//! Error messages on their way through a topology: who passes them on, and who receives them.

use hdv_pci::spec::aer::{RootErrorCommand, RootErrorStatus};
use hdv_pci::topology::{FunctionDecode, FunctionId, Member, Parent, PortId, TopologyError};
use hdv_pci::{
    Aer, ConfigSpace, Effects, ErrorMessage, PciExpress, PortKind, RootErrorView, RoutingId,
};

use crate::common::IDENTITY;
use crate::machine::Machine;

const SERR: [u8; 2] = [2, 0];

struct Chain {
    machine: Machine,
    /// Root, upstream and downstream port.
    ports: [PortId; 3],
    function: FunctionId,
}

fn root_port() -> ConfigSpace {
    ConfigSpace::bridge_builder(IDENTITY)
        .capability(PciExpress::root_port(0))
        .extended_capability(Aer::root_port())
        .build()
        .unwrap()
}

impl Chain {
    /// Buses 1, 2 and 3, and every port passes errors on.
    fn new() -> Self {
        let mut machine = Machine::new(0);
        let topology = &mut machine.topology;
        let root = topology.add_port(Parent::Root, 1, 0, root_port()).unwrap();
        let upstream = machine.port(Parent::Port(root), 0, PortKind::Upstream);
        let downstream = machine.port(Parent::Port(upstream), 4, PortKind::Downstream);
        let topology = &mut machine.topology;
        let below = Parent::Port(downstream);
        let function = topology
            .attach(below, 0, 0, FunctionDecode::default())
            .unwrap();
        let ports = [root, upstream, downstream];
        for (secondary, port) in (1..).zip(ports) {
            let _ = topology.write_port(port, 0x19, &[secondary, 3]).unwrap();
            let _ = topology.write_port(port, 0x3e, &SERR).unwrap();
            let _ = topology.write_port(port, 0x04, &[0, 1]).unwrap();
        }
        let everything = RootErrorCommand::all().bits().to_le_bytes();
        let _ = topology.write_port(root, 0x12c, &everything).unwrap();
        Self {
            machine,
            ports,
            function,
        }
    }

    fn send(&mut self, from: Member, message: ErrorMessage) -> Option<(PortId, Effects)> {
        self.machine.topology.send_error(from, message).unwrap()
    }

    fn received(&self) -> RootErrorView {
        let config = self.machine.topology.port(self.ports[0]).unwrap();
        config.aer().unwrap().root.unwrap()
    }

    fn function(&self) -> Member {
        Member::Function(self.function)
    }
}

#[test]
fn the_root_port_learns_who_it_was() {
    let mut chain = Chain::new();
    let [root, upstream, downstream] = chain.ports;
    for (from, source) in [
        (chain.function(), RoutingId::new(3, 0, 0)),
        (Member::Port(downstream), RoutingId::new(2, 4, 0)),
        (Member::Port(upstream), RoutingId::new(1, 0, 0)),
        (Member::Port(root), RoutingId::new(0, 1, 0)),
    ] {
        assert_eq!(chain.machine.topology.root_port(from), Some(root));
        let told = chain.send(from, ErrorMessage::Fatal);
        assert_eq!(told, Some((root, Effects::PORT_INTERRUPT)));
        let received = chain.received();
        assert_eq!(received.uncorrectable_source, source.unwrap());
        assert!(received.status.contains(RootErrorStatus::FATAL_RECEIVED));
        let all = [0xff; 4];
        let cleared = chain.machine.topology.write_port(root, 0x130, &all);
        assert!(cleared.is_ok());
    }
}

#[test]
fn any_port_on_the_way_may_keep_it() {
    for keeper in 0..3 {
        let mut chain = Chain::new();
        let port = chain.ports[keeper];
        let topology = &mut chain.machine.topology;
        let _ = topology.write_port(port, 0x3e, &[0, 0]).unwrap();
        assert_eq!(
            chain.send(chain.function(), ErrorMessage::Correctable),
            None
        );
        assert!(chain.received().status.is_empty());
        // The ports above it still send theirs.
        for (index, above) in chain.ports.into_iter().enumerate().take(keeper + 1) {
            let told = chain.send(Member::Port(above), ErrorMessage::Correctable);
            assert!(told.is_some(), "{keeper} {index}");
        }
    }
}

#[test]
fn a_link_that_is_down_passes_nothing() {
    let mut chain = Chain::new();
    let [root, _, downstream] = chain.ports;
    let down = |config: &mut ConfigSpace| config.set_link_active(false);
    let topology = &mut chain.machine.topology;
    let _ = topology.change_port(downstream, down).unwrap();
    assert_eq!(chain.send(chain.function(), ErrorMessage::NonFatal), None);
    let told = chain.send(Member::Port(downstream), ErrorMessage::NonFatal);
    assert_eq!(told.map(|(port, _)| port), Some(root));
}

#[test]
fn on_the_root_bus_nobody_receives_it() {
    let mut chain = Chain::new();
    let topology = &mut chain.machine.topology;
    let decode = FunctionDecode::default();
    let alone = topology.attach(Parent::Root, 9, 0, decode).unwrap();
    assert_eq!(topology.root_port(Member::Function(alone)), None);
    assert_eq!(
        chain.send(Member::Function(alone), ErrorMessage::Fatal),
        None
    );
    let topology = &mut chain.machine.topology;
    topology.detach(alone).unwrap();
    assert_eq!(
        topology.send_error(Member::Function(alone), ErrorMessage::Fatal),
        Err(TopologyError::NoFunction(alone))
    );
}
