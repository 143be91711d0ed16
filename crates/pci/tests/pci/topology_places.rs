//! What may be where in a topology, in which order it comes and goes, and how much of it; and where in
//! an ECAM window it is.

use hdv_pci::topology::{
    ConfigTarget, Ecam, EcamError, MAX_FUNCTIONS, Parent, Topology, TopologyError,
};
use hdv_pci::{ConfigSpace, PortKind};

use crate::common::{IDENTITY, read_u8};
use crate::machine::Machine;
use crate::topology::{endpoint, id, nothing};

const ROOT: Parent = Parent::Root;

#[test]
fn a_topology_is_as_hardware_can_be() {
    let mut machine = Machine::new(0);
    let root = machine.port(ROOT, 0, PortKind::Root);
    let upstream = machine.port(Parent::Port(root), 0, PortKind::Upstream);
    let downstream = machine.port(Parent::Port(upstream), 0, PortKind::Downstream);
    let [root, upstream, downstream] = [root, upstream, downstream].map(Parent::Port);

    let places = [ROOT, root, upstream, downstream];
    for (kind, allowed) in [
        (PortKind::Root, [true, false, false, false]),
        (PortKind::Upstream, [false, true, false, true]),
        (PortKind::Downstream, [false, false, true, false]),
    ] {
        for (parent, allowed) in places.into_iter().zip(allowed) {
            let config = machine.port_config(kind, false);
            let on_link = parent == root || parent == downstream;
            let device = if on_link { 0 } else { 9 };
            let function = u8::from(parent == root);
            let result = machine.topology.add_port(parent, device, function, config);
            let expected = if allowed {
                Ok(())
            } else {
                Err(TopologyError::PortPlace { kind })
            };
            assert_eq!(result.map(|_| ()), expected, "{kind:?} at {parent:?}");
            if let Ok(port) = result {
                machine.topology.remove_port(port).unwrap();
            }
        }
    }
    let refused = machine.topology.add_port(ROOT, 1, 0, endpoint());
    assert_eq!(refused, Err(TopologyError::NotAPort));
    let bridge = ConfigSpace::bridge_builder(IDENTITY).build().unwrap();
    let refused = machine.topology.add_port(ROOT, 1, 0, bridge);
    assert_eq!(refused, Err(TopologyError::NotAPort));

    let topology = &mut machine.topology;
    let mut refused = |parent, device, function| {
        topology
            .attach(parent, device, function, nothing())
            .expect_err("it cannot be there")
    };
    let number = |device, function| TopologyError::FunctionNumber { device, function };
    assert_eq!(refused(ROOT, 32, 0), number(32, 0));
    assert_eq!(refused(ROOT, 0, 8), number(0, 8));
    assert_eq!(refused(upstream, 32, 0), number(32, 0));
    assert_eq!(refused(upstream, 1, 0), TopologyError::InternalBus);
    let device = TopologyError::DeviceNumber { device: 1 };
    assert_eq!(refused(downstream, 1, 0), device);
    let taken = |device, function| TopologyError::Taken { device, function };
    assert_eq!(refused(ROOT, 0, 0), taken(0, 0));
    let no_zero = |device, function| TopologyError::NoFunctionZero { device, function };
    assert_eq!(refused(ROOT, 3, 1), no_zero(3, 1));
    assert_eq!(refused(downstream, 0, 255), no_zero(0, 255));
}

#[test]
fn function_0_goes_last() {
    let mut topology = Topology::new(0);
    let zero = topology.attach(ROOT, 3, 0, nothing()).unwrap();
    let one = topology.attach(ROOT, 3, 1, nothing()).unwrap();
    topology.attach(ROOT, 4, 0, nothing()).unwrap();
    assert!(topology.is_multi_function(one));
    let error = TopologyError::FunctionZero { device: 3 };
    assert_eq!(topology.detach(zero), Err(error));
    topology.detach(one).unwrap();
    assert!(!topology.is_multi_function(zero));
    topology.detach(zero).unwrap();
    assert_eq!(topology.detach(zero), Err(TopologyError::NoFunction(zero)));
    assert_eq!(
        topology.update(zero, nothing()),
        Err(TopologyError::NoFunction(zero))
    );
    let again = topology.attach(ROOT, 3, 0, nothing()).unwrap();
    assert_ne!(again, zero, "ids are never used again");
    assert_eq!(
        topology.config_target(id(0, 3, 0)),
        Some(ConfigTarget::Function(again))
    );
}

#[test]
fn ports_say_themselves_that_their_device_has_others() {
    let mut machine = Machine::new(0);
    let zero = machine.port(ROOT, 0, PortKind::Root);
    assert_eq!(read_u8(machine.config(zero), 0x0e), 0x01);
    let config = machine.port_config(PortKind::Root, false);
    let one = machine.add_port(ROOT, 0, 1, config).unwrap();
    assert_eq!(read_u8(machine.config(zero), 0x0e), 0x81);
    let error = machine.topology.remove_port(zero).unwrap_err();
    assert_eq!(error, TopologyError::FunctionZero { device: 0 });
    machine.topology.remove_port(one).unwrap();
    assert_eq!(read_u8(machine.config(zero), 0x0e), 0x01);
}

#[test]
fn there_is_a_limit_to_functions() {
    let mut machine = Machine::new(0);
    let ports: Vec<_> = (0..17)
        .map(|device| machine.port(ROOT, device, PortKind::Root))
        .collect();
    let topology = &mut machine.topology;
    for at in 0..MAX_FUNCTIONS {
        let function = u8::try_from(at % 256).unwrap();
        let parent = Parent::Port(ports[at / 256]);
        topology.attach(parent, 0, function, nothing()).unwrap();
    }
    let refused = topology.attach(Parent::Port(ports[16]), 0, 0, nothing());
    assert_eq!(refused, Err(TopologyError::TooManyFunctions));
}

#[test]
fn ecam_windows_have_the_buses_they_are_made_for() {
    for (first_bus, bus_count) in [(0, 0), (0, 257), (0xff, 2), (1, u16::MAX)] {
        let error = EcamError {
            first_bus,
            bus_count,
        };
        assert_eq!(Ecam::new(first_bus, bus_count), Err(error));
    }
    let all = Ecam::new(0, 256).unwrap();
    assert_eq!(all.size(), 256 << 20);
    let last = id(0xff, 31, 7);
    assert_eq!(all.decode(all.size() - 1), Some((last, 0xfff)));
    assert_eq!(all.decode(all.size()), None);
    assert_eq!(all.decode(u64::MAX), None);
    assert_eq!(all.offset(last, 0x1000), None);
    let some = Ecam::new(0xfe, 1).unwrap();
    assert_eq!(some.decode(0), Some((id(0xfe, 0, 0), 0)));
    assert_eq!(some.offset(id(0xff, 0, 0), 0), None);
    assert_eq!(some.offset(id(0xfd, 31, 7), 0), None);
}
